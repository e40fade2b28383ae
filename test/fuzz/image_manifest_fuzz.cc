// The JSON documents of images, from any bytes; and what is accepted must survive a round trip.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "oci/image_json.h"
#include "oci/image_resolve.h"
#include "oci/user.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bulkhead::oci;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  (void)ParseIndexOrManifest(text);
  (void)ParseDockerManifest(text);
  (void)Digest::Parse(text);
  if (ParseImageConfig(text)) {
    const auto record = ParseImageRecord(ImageRecordToJson({"digest", std::string(text)}));
    if (!record || record->config_json != text) {
      std::abort();
    }
  }
  const size_t middle = text.find('\n');
  const std::string first(text.substr(0, middle));
  const std::string rest(middle == std::string_view::npos ? "" : text.substr(middle + 1));
  (void)RefMatches(first, rest);
  (void)ResolveUserFrom(first, rest, rest, {rest.substr(0, 8)});
  return 0;
}
