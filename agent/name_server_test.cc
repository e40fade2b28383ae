#include "agent/name_server.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include <condition_variable>
#include <cstdlib>
#include <optional>
#include <vector>

#include "agent/name_redirect.h"
#include "base/sys.h"

namespace bulkhead::agent {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr char kUnified[] = "/sys/fs/cgroup/unified";
const std::string kQuery = "a query of 12 bytes or more";

// The stream to the host; the test is the host.
class Host : public NameQuerySink {
 public:
  explicit Host(NameServer& server) : server_(server) { server_.Attach(this); }
  ~Host() override { server_.Detach(this); }
  void Send(NameQuery query) override {
    {
      const std::scoped_lock lock(mutex_);
      queries_.push_back(std::move(query));
    }
    changed_.notify_all();
    if (reads) {
      server_.Sent(this);
    }
  }
  void Replaced() override { replaced = true; }

  // The next one that is sent; none comes: its message is empty.
  NameQuery Next(milliseconds time = seconds(5)) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, time, [this] { return queries_.size() > taken_; });
    return queries_.size() > taken_ ? queries_[taken_++] : NameQuery{};
  }
  void Answer(const NameQuery& query, const std::string& message) {
    server_.Answer(this, query.id, message);
  }

  std::atomic<bool> reads = true;
  std::atomic<bool> replaced = false;

 private:
  NameServer& server_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<NameQuery> queries_;
  size_t taken_ = 0;
};

sockaddr_in Address(uint16_t port, uint32_t ip = kNameServerAddress) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(ip);
  return address;
}
sockaddr_in6 Mapped(uint16_t port) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  address.sin6_addr.s6_addr[10] = address.sin6_addr.s6_addr[11] = 0xff;
  address.sin6_addr.s6_addr[12] = 127;
  address.sin6_addr.s6_addr[15] = 11;
  return address;
}
std::string Prefixed(const std::string& message) {
  return std::string{static_cast<char>(message.size() >> 8U),
                     static_cast<char>(message.size() & 0xffU)} +
         message;
}
std::string ReadAll(const UniqueFd& socket, size_t size) {
  std::string bytes(size, '\0');
  const timeval patience{5, 0};
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  const ssize_t count = ::recv(socket.get(), bytes.data(), size, MSG_WAITALL);
  bytes.resize(count < 0 ? 0 : static_cast<size_t>(count));
  return count < 0 ? "error" : bytes;
}

class NameServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    own_netns_ = *sys::Open("/proc/thread-self/ns/net", O_RDONLY);
    if (const auto alone = sys::Unshare(CLONE_NEWNET); !alone) {
      GTEST_SKIP() << "no network namespaces: " << alone.error().message();
    }
    ASSERT_EQ(std::system("ip link set lo up"), 0);
    server_ = *NameServer::Create(*loop_);
    sockaddr_in address{};
    socklen_t size = sizeof(address);
    ASSERT_EQ(::getsockname(server_->socket(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    host_.emplace(*server_);
    EXPECT_EQ(host_->Next().id, 0U);  // it listens
  }
  void TearDown() override {
    host_.reset();
    server_.reset();
    EXPECT_TRUE(sys::SetNs(own_netns_.get(), CLONE_NEWNET));
  }

  UniqueFd Socket(int type, int family = AF_INET) const {
    return UniqueFd(::socket(family, type | SOCK_CLOEXEC, 0));
  }
  template <typename To>
  bool Connect(const UniqueFd& socket, const To& to) const {
    return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0;
  }
  UniqueFd Client(int type) const {
    UniqueFd socket = Socket(type);
    EXPECT_TRUE(Connect(socket, Address(port_)));
    return socket;
  }

  UniqueFd own_netns_;
  std::unique_ptr<IoLoop> loop_ = *IoLoop::Create();
  std::shared_ptr<NameServer> server_;
  uint16_t port_ = 0;
  std::optional<Host> host_;
};

TEST_F(NameServerTest, TakesAndAnswersOverUdp) {
  const UniqueFd one = Client(SOCK_DGRAM);
  const UniqueFd two = Client(SOCK_DGRAM);
  ASSERT_TRUE(sys::WriteAll(one.get(), kQuery + "1"));
  const NameQuery first = host_->Next();
  ASSERT_TRUE(sys::WriteAll(two.get(), kQuery + "2"));
  const NameQuery second = host_->Next();
  EXPECT_EQ(first.message + second.message, kQuery + "1" + kQuery + "2");
  EXPECT_FALSE(first.tcp);
  host_->Answer(second, "two");
  host_->Answer(first, "one");
  host_->Answer(first, "one again");
  EXPECT_EQ(ReadAll(two, 3), "two");
  EXPECT_EQ(ReadAll(one, 3), "one");
  EXPECT_EQ(::recv(one.get(), nullptr, 0, MSG_DONTWAIT), -1);
}

TEST_F(NameServerTest, DropsWhatIsNoQuery) {
  const UniqueFd client = Client(SOCK_DGRAM);
  ASSERT_TRUE(sys::WriteAll(client.get(), "elevenbytes"));
  ASSERT_TRUE(sys::WriteAll(client.get(), std::string(4097, 'x')));
  ASSERT_TRUE(sys::WriteAll(client.get(), std::string(4096, 'y')));
  EXPECT_EQ(host_->Next().message, std::string(4096, 'y'));
  const UniqueFd connection = Client(SOCK_STREAM);
  ASSERT_TRUE(sys::WriteAll(connection.get(), Prefixed("elevenbytes")));
  EXPECT_EQ(ReadAll(connection, 1), "");  // its end
}

// As they come: in pieces, or the next before the first is answered.
TEST_F(NameServerTest, TakesAndAnswersOverTcp) {
  const UniqueFd client = Client(SOCK_STREAM);
  const std::string big(65535, 'q');
  const std::string bytes = Prefixed(kQuery) + Prefixed(big) + Prefixed(kQuery + "3");
  size_t sent = 0;
  for (const size_t piece : {size_t{1}, size_t{1}, size_t{5}, bytes.size() - 7}) {
    ASSERT_TRUE(sys::WriteAll(client.get(), bytes.substr(sent, piece)));
    sent += piece;
    std::this_thread::sleep_for(milliseconds(10));
  }
  const NameQuery first = host_->Next();
  EXPECT_TRUE(first.tcp);
  EXPECT_EQ(first.message, kQuery);
  EXPECT_EQ(host_->Next(milliseconds(50)).message, "");
  const std::string answer(65535, 'a');
  host_->Answer(first, answer);
  EXPECT_EQ(ReadAll(client, 65537), Prefixed(answer));
  const NameQuery second = host_->Next();
  EXPECT_EQ(second.message, big);
  host_->Answer(second, "");  // none: nothing is sent
  ASSERT_EQ(::shutdown(client.get(), SHUT_WR), 0);
  const NameQuery third = host_->Next();
  EXPECT_EQ(third.message, kQuery + "3");
  host_->Answer(third, "last");
  EXPECT_EQ(ReadAll(client, 100), Prefixed("last"));  // and its end
}

TEST_F(NameServerTest, AClientThatLeavesIsForgotten) {
  UniqueFd client = Client(SOCK_STREAM);
  ASSERT_TRUE(sys::WriteAll(client.get(), Prefixed(kQuery)));
  const NameQuery query = host_->Next();
  client.Reset();
  host_->Answer(query, "answer");
  const UniqueFd other = Client(SOCK_STREAM);
  ASSERT_TRUE(sys::WriteAll(other.get(), Prefixed(kQuery)));
  host_->Answer(host_->Next(), "other");
  EXPECT_EQ(ReadAll(other, 7), Prefixed("other"));
}

TEST_F(NameServerTest, AsksNoMoreAtOnceThanItMay) {
  const UniqueFd client = Client(SOCK_DGRAM);
  const UniqueFd connection = Client(SOCK_STREAM);
  std::vector<NameQuery> queries;
  for (size_t i = 0; i < NameServer::kMaxQueries; ++i) {
    ASSERT_TRUE(sys::WriteAll(client.get(), kQuery));
    queries.push_back(host_->Next());
    ASSERT_EQ(queries.back().message, kQuery);
  }
  ASSERT_TRUE(sys::WriteAll(client.get(), kQuery + "udp"));
  ASSERT_TRUE(sys::WriteAll(connection.get(), Prefixed(kQuery + "tcp")));
  EXPECT_EQ(host_->Next(milliseconds(100)).message, "");
  host_->Answer(queries[0], "answer");
  const std::string next = host_->Next().message;
  EXPECT_EQ(host_->Next(milliseconds(100)).message, "");
  host_->Answer(queries[1], "answer");
  EXPECT_THAT((std::vector{next, host_->Next().message}),
              ::testing::UnorderedElementsAre(kQuery + "udp", kQuery + "tcp"));
}

TEST_F(NameServerTest, ClosesTheConnectionThatWasSilentLongest) {
  std::vector<UniqueFd> clients;
  for (size_t i = 0; i <= NameServer::kMaxConnections; ++i) {
    clients.push_back(Client(SOCK_STREAM));
    // It is the next in line, and has spoken.
    ASSERT_TRUE(sys::WriteAll(clients.back().get(), Prefixed(kQuery)));
    ASSERT_EQ(host_->Next().message, kQuery);
  }
  EXPECT_EQ(ReadAll(clients.front(), 1), "");
  pollfd second{clients[1].get(), POLLIN, 0};
  EXPECT_EQ(::poll(&second, 1, 50), 0);
}

// The host does not read: one message is under way, the others wait here.
TEST_F(NameServerTest, SendsOneAfterAnother) {
  host_->reads = false;
  const UniqueFd client = Client(SOCK_DGRAM);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(sys::WriteAll(client.get(), kQuery));
  }
  EXPECT_EQ(host_->Next().message, kQuery);
  EXPECT_EQ(host_->Next(milliseconds(100)).message, "");
  host_->reads = true;
  server_->Sent(&*host_);
  EXPECT_EQ(host_->Next().message, kQuery);
  EXPECT_EQ(host_->Next().message, kQuery);
}

TEST_F(NameServerTest, AnotherStreamTakesOver) {
  const UniqueFd client = Client(SOCK_DGRAM);
  const UniqueFd connection = Client(SOCK_STREAM);
  ASSERT_TRUE(sys::WriteAll(connection.get(), Prefixed(kQuery)));
  const NameQuery old = host_->Next();
  Host other(*server_);
  EXPECT_TRUE(host_->replaced);
  EXPECT_EQ(other.Next().id, 0U);
  EXPECT_EQ(ReadAll(connection, 1), "");
  ASSERT_TRUE(sys::WriteAll(client.get(), kQuery));
  const NameQuery query = other.Next();
  host_->Answer(query, "nobody hears it");
  other.Answer(query, "answer");
  EXPECT_EQ(ReadAll(client, 6), "answer");
}

// With the redirection, in a control group of its own.
class NameRedirectTest : public NameServerTest {
 protected:
  void SetUp() override {
    NameServerTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    if (!sys::Exists(std::string(kUnified) + "/cgroup.procs")) {
      GTEST_SKIP() << "no cgroup2 at " << kUnified;
    }
    const std::string own = *sys::ReadFile("/proc/self/cgroup");
    const size_t at = own.find("0::");
    home_ = kUnified + own.substr(at + 3, own.find('\n', at) - at - 3);
    folder_ = fmt::format("{}/bulkhead-test-{}", kUnified, ::getpid());
    if (const auto made = sys::Mkdir(folder_); !made) {
      GTEST_SKIP() << made.error().message();
    }
    ASSERT_TRUE(sys::WriteExisting(folder_ + "/cgroup.procs", "0"));
    auto redirect = NameRedirect::Open(folder_, server_->socket());
    ASSERT_TRUE(redirect) << redirect.error().message();
    redirect_.emplace(std::move(*redirect));
  }
  void TearDown() override {
    redirect_.reset();
    if (!folder_.empty()) {
      EXPECT_TRUE(sys::WriteExisting(home_ + "/cgroup.procs", "0"));
      EXPECT_TRUE(sys::Rmdir(folder_));
    }
    NameServerTest::TearDown();
  }

  // Sends without a connection; whoever answers.
  template <typename To>
  To AskFrom(const UniqueFd& client, To to, const std::string& answer) {
    EXPECT_EQ(::sendto(client.get(), kQuery.data(), kQuery.size(), 0,
                       reinterpret_cast<const sockaddr*>(&to), sizeof(to)),
              static_cast<ssize_t>(kQuery.size()));
    host_->Answer(host_->Next(), answer);
    To from{};
    socklen_t size = sizeof(from);
    std::string told(100, '\0');
    EXPECT_TRUE(*sys::PollOne(client.get(), POLLIN, seconds(5)));
    const ssize_t count = ::recvfrom(client.get(), told.data(), told.size(), MSG_DONTWAIT,
                                     reinterpret_cast<sockaddr*>(&from), &size);
    EXPECT_EQ(told.substr(0, count < 0 ? 0 : static_cast<size_t>(count)), answer);
    return from;
  }
  template <typename To>
  To PeerOf(const UniqueFd& client) {
    To peer{};
    socklen_t size = sizeof(peer);
    EXPECT_EQ(::getpeername(client.get(), reinterpret_cast<sockaddr*>(&peer), &size), 0);
    return peer;
  }

  std::string home_;
  std::string folder_;
  std::optional<NameRedirect> redirect_;
};

TEST_F(NameRedirectTest, UdpReachesItAndIsAnsweredFromPort53) {
  const auto from = AskFrom(Socket(SOCK_DGRAM), Address(53), "answer");
  EXPECT_EQ(ntohs(from.sin_port), 53);
  EXPECT_EQ(from.sin_addr.s_addr, Address(53).sin_addr.s_addr);
  const auto from6 = AskFrom(Socket(SOCK_DGRAM, AF_INET6), Mapped(53), "answer");
  EXPECT_EQ(ntohs(from6.sin6_port), 53);
}

TEST_F(NameRedirectTest, AConnectionReachesItAndHasPort53AsItsPeer) {
  for (const int type : {SOCK_DGRAM, SOCK_STREAM}) {
    const UniqueFd client = Socket(type);
    ASSERT_TRUE(Connect(client, Address(53)));
    EXPECT_EQ(ntohs(PeerOf<sockaddr_in>(client).sin_port), 53);
    const UniqueFd client6 = Socket(type, AF_INET6);
    ASSERT_TRUE(Connect(client6, Mapped(53)));
    EXPECT_EQ(ntohs(PeerOf<sockaddr_in6>(client6).sin6_port), 53);
    const bool tcp = type == SOCK_STREAM;
    for (const UniqueFd* each : {&client, &client6}) {
      ASSERT_TRUE(sys::WriteAll(each->get(), tcp ? Prefixed(kQuery) : kQuery));
      const NameQuery query = host_->Next();
      EXPECT_EQ(query.message, kQuery);
      host_->Answer(query, "answer");
      EXPECT_EQ(ReadAll(*each, tcp ? 8 : 6), tcp ? Prefixed("answer") : "answer");
    }
  }
}

// A server that the pod has itself is reached at every other address.
TEST_F(NameRedirectTest, LeavesPort53ToOthers) {
  const UniqueFd server = Socket(SOCK_DGRAM);
  const auto any = Address(53, INADDR_ANY);
  ASSERT_EQ(::bind(server.get(), reinterpret_cast<const sockaddr*>(&any), sizeof(any)), 0);
  const UniqueFd client = Socket(SOCK_DGRAM);
  ASSERT_TRUE(Connect(client, Address(53, INADDR_LOOPBACK)));
  ASSERT_TRUE(sys::WriteAll(client.get(), "local"));
  EXPECT_EQ(ReadAll(server, 5), "local");
  EXPECT_EQ(ntohs(AskFrom(Socket(SOCK_DGRAM), Address(53), "answer").sin_port), 53);
  const UniqueFd other_port = Socket(SOCK_STREAM);
  EXPECT_FALSE(Connect(other_port, Address(54)));
}

// So it is with a Docker inside of the pod, which has its own name server in each of its own.
TEST_F(NameRedirectTest, LeavesOtherNetworkNamespacesAlone) {
  const UniqueFd pod = *sys::Open("/proc/thread-self/ns/net", O_RDONLY);
  ASSERT_TRUE(sys::Unshare(CLONE_NEWNET));
  ASSERT_EQ(std::system("ip link set lo up"), 0);
  {
    const UniqueFd server = Socket(SOCK_DGRAM);
    const auto own = Address(53);
    ASSERT_EQ(::bind(server.get(), reinterpret_cast<const sockaddr*>(&own), sizeof(own)), 0);
    const UniqueFd client = Socket(SOCK_DGRAM);
    ASSERT_TRUE(Connect(client, own));
    ASSERT_TRUE(sys::WriteAll(client.get(), "inner"));
    EXPECT_EQ(ReadAll(server, 5), "inner");
  }
  ASSERT_TRUE(sys::SetNs(pod.get(), CLONE_NEWNET));
}

TEST_F(NameRedirectTest, EndsWithItsOwner) {
  redirect_.reset();
  EXPECT_FALSE(Connect(Socket(SOCK_STREAM), Address(53)));
}

TEST_F(NameRedirectTest, NamesWhatIsWrong) {
  EXPECT_THAT(NameRedirect::Open("/nowhere", server_->socket()).error().message(),
              ::testing::HasSubstr("/nowhere"));
  EXPECT_FALSE(NameRedirect::Open("/tmp", server_->socket()));
}

}  // namespace
}  // namespace bulkhead::agent
