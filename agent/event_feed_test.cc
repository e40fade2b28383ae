#include "agent/event_feed.h"

#include <gtest/gtest.h>

#include <vector>

namespace bulkhead::agent {
namespace {

struct FakeStream : EventSink {
  void SendOom(const std::string& id) override { sent.push_back(id); }
  void Replaced() override { replaced = true; }
  std::vector<std::string> sent;
  bool replaced = false;
};

using Ids = std::vector<std::string>;

TEST(EventFeed, SendsOneAfterTheOther) {
  EventFeed feed;
  feed.PublishOom("before");
  FakeStream stream;
  feed.Attach(&stream);
  feed.PublishOom("a");
  EXPECT_EQ(stream.sent, Ids{});
  feed.Sent(&stream);
  feed.PublishOom("b");
  feed.PublishOom("b");  // still waits to be told
  feed.PublishOom("a");  // again, since the first is under way
  EXPECT_EQ(stream.sent, Ids{"a"});
  feed.Sent(&stream);
  feed.Sent(&stream);
  feed.Sent(&stream);
  EXPECT_EQ(stream.sent, (Ids{"a", "b", "a"}));
}

TEST(EventFeed, KeepsABoundedQueue) {
  EventFeed feed;
  FakeStream stream;
  feed.Attach(&stream);
  feed.Sent(&stream);
  for (size_t i = 0; i < EventFeed::kMaxPending + 10; ++i) {
    feed.PublishOom(std::to_string(i));
  }
  for (size_t i = 0; i < EventFeed::kMaxPending + 10; ++i) {
    feed.Sent(&stream);
  }
  ASSERT_EQ(stream.sent.size(), EventFeed::kMaxPending + 1);
  EXPECT_EQ(stream.sent[1], "10");  // 0 was under way, 1 to 9 are the oldest
}

TEST(EventFeed, ANewStreamTakesOver) {
  EventFeed feed;
  FakeStream first;
  feed.Attach(&first);
  feed.Sent(&first);
  feed.PublishOom("a");
  feed.PublishOom("b");
  FakeStream second;
  feed.Attach(&second);
  feed.Sent(&second);
  EXPECT_TRUE(first.replaced);
  feed.Sent(&first);
  feed.Detach(&first);
  feed.PublishOom("c");
  EXPECT_EQ(first.sent, Ids{"a"});
  EXPECT_EQ(second.sent, Ids{"c"});
  feed.Detach(&second);
  feed.PublishOom("d");
  EXPECT_EQ(second.sent, Ids{"c"});
}

}  // namespace
}  // namespace bulkhead::agent
