// What a container finds below its root: shared, plugged in, and where it writes.
#include "shim/pod.h"
#include "shim/upper_image.h"

namespace bulkhead::shim {
namespace {

constexpr uint64_t kUpperDisk = 10ULL << 30U;

// 0: half of the guest's.
Result<uint64_t> UpperMemory(const Config& config, const oci::Spec& spec) {
  const auto limit =
      static_cast<uint64_t>(std::max<int64_t>(spec.linux_.resources.memory.limit.value_or(0), 0));
  if (limit != 0 && config.upper_size_bytes > limit) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "rootfs.upper.size: {} bytes are more than the container's memory limit, {}",
                     config.upper_size_bytes, limit);
  }
  return config.upper_size_bytes != 0 ? config.upper_size_bytes : limit / 2;
}

}  // namespace

Result<int> Pod::Storage::Explain(Result<int> created) const {
  if (created) {
    return created;
  }
  Error error = std::move(created).error();
  for (const auto* plugged : {&drive, &upper_drive}) {
    if (*plugged) {
      error = (*plugged)->Explain(std::move(error));
    }
  }
  return tl::unexpected<Error>(std::move(error));
}

pb::CreateContainerRequest Pod::CreateRequest(const CreateOptions& options, const oci::Spec& spec,
                                              const Storage& storage) {
  pb::CreateContainerRequest request;
  request.set_container_id(options.id);
  request.set_spec(oci::SpecToJson(spec));
  request.set_stdin(!options.stdio.in.empty());
  for (const auto* plugged : {&storage.drive, &storage.upper_drive}) {
    if (*plugged) {
      *request.add_drives() = (*plugged)->description();
    }
  }
  request.set_bundle(options.bundle);
  if (storage.upper) {
    *request.mutable_upper() = *storage.upper;
  }
  return request;
}

Result<Pod::Storage> Pod::AddStorage(const CreateOptions& options, const Sandbox& sandbox,
                                     oci::Spec& spec) {
  const Config config = TRY(ApplyAnnotations(config_, spec.annotations));
  const bool layered = config.upper != "shared";
  std::optional<RootDrive> drive;
  if (IsRootDrive(options.rootfs)) {
    drive.emplace(TRY(RootDrive::Attach(sandbox.vm, options.rootfs[0], NextSerial())));
    spec.root.path = drive->description().mount_point();
  }
  SharedFolder folder = TRY(drive ? shared_->Add({}, "", spec) : Share(options, layered, spec));
  Storage storage{std::move(folder), std::move(drive), std::nullopt, std::nullopt};
  if (layered) {
    TRY_AS(AddUpper(config, sandbox, spec, storage),
           "rootfs.upper = {} (annotation io.bulkhead.rootfs.upper)", config.upper);
  }
  return storage;
}

Result<SharedFolder> Pod::Share(const CreateOptions& options, bool fixed, oci::Spec& spec) {
  const std::string& path = spec.root.path;
  const std::string rootfs = path.starts_with('/') ? path : options.bundle + "/" + path;
  const int view = options.mount_namespace ? options.mount_namespace->get() : -1;
  return shared_->Add(options.rootfs, rootfs, spec, view, fixed);
}

Status Pod::AddUpper(const Config& config, const Sandbox& sandbox, const oci::Spec& spec,
                     Storage& storage) {
  pb::WritableLayer layer;
  layer.mutable_folders()->Assign(config.upper_folders.begin(), config.upper_folders.end());
  if (config.upper == "block") {
    const uint64_t size = config.upper_size_bytes != 0 ? config.upper_size_bytes : kUpperDisk;
    UniqueFd image = TRY(MakeUpperImage(config.data_dir, size, config.mkfs, spawner_));
    storage.upper_drive.emplace(
        TRY(RootDrive::AttachUpper(sandbox.vm, std::move(image), NextSerial())));
    layer.set_drive(storage.upper_drive->description().mount_point());
  } else {
    layer.set_memory_bytes(TRY(UpperMemory(config, spec)));
  }
  storage.upper = std::move(layer);
  return {};
}

std::string Pod::NextSerial() {
  const std::lock_guard lock(mutex_);
  return fmt::format("drive-{}", ++drive_count_);
}

}  // namespace bulkhead::shim
