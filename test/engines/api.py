"""containerd's own API over gRPC, with the descriptors that its program carries.

What ctr cannot do alone: a task that is created and not started, two clients at once.
"""

import contextlib
import functools

import grpc
from cri import CONTAINERD, descriptors, without_options
from google.protobuf import (any_pb2, descriptor_pool, duration_pb2, empty_pb2, field_mask_pb2,
                             json_format, message_factory, timestamp_pb2)
from host import PATIENCE

WELL_KNOWN = (any_pb2, duration_pb2, empty_pb2, field_mask_pb2, timestamp_pb2)
TASKS = "containerd.services.tasks.v1.Tasks"
SNAPSHOTS = "containerd.services.snapshots.v1.Snapshots"


class Protos:
    """All messages and services below `containerd.`, without Go's annotations."""

    def __init__(self):
        self.pool = descriptor_pool.DescriptorPool()
        self.factory = message_factory.MessageFactory(self.pool)
        for module in WELL_KNOWN:
            self.pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
        known = {module.DESCRIPTOR.name for module in WELL_KNOWN}
        files = {file.name: file for file in descriptors(CONTAINERD)
                 if file.package.startswith("containerd.")}
        while files:
            ready = [file for file in files.values()
                     if not any(self.lacks(name, known, files) for name in file.dependency)]
            for file in ready:
                self.add(file, known)
                known.add(file.name)
                del files[file.name]
            if not ready:
                break  # files that need what nobody has

    @staticmethod
    def lacks(name, known, files):
        return name in files and name not in known

    def add(self, file, known):
        kept = [name for name in file.dependency if name in known]
        for field in ("dependency", "public_dependency", "weak_dependency", "options"):
            file.ClearField(field)
        file.dependency.extend(kept)
        for message in file.message_type:
            without_options(message)
        for enum in [*file.enum_type, *(each for message in file.message_type
                                        for each in message.enum_type)]:
            enum.ClearField("options")
            for value in enum.value:
                value.ClearField("options")
        with contextlib.suppress(TypeError):  # needs something outside containerd
            self.pool.Add(file)

    def message(self, descriptor):
        return self.factory.GetPrototype(descriptor)

    def methods(self, service):
        return {method.name: (self.message(method.input_type), self.message(method.output_type))
                for method in self.pool.FindServiceByName(service).methods}


@functools.cache
def protos():
    return Protos()


class Api:
    """One service for one namespace: `Api(engine, TASKS).Kill(container_id=name, signal=9)`."""

    def __init__(self, engine, service):
        self.address = f"unix://{engine.socket}"
        self.service, self.namespace = service, engine.namespace
        self.kinds = protos().methods(service)

    def __getattr__(self, method):
        request, response = self.kinds[method]

        def invoke(timeout=PATIENCE, any_spec=None, **fields):
            message = json_format.ParseDict(fields, request())
            if any_spec:  # an Any of a type that only containerd knows
                message.spec.type_url, message.spec.value = any_spec
            with grpc.insecure_channel(self.address) as channel:
                call = channel.unary_unary(f"/{self.service}/{method}", request.SerializeToString,
                                           response.FromString)
                return call(message, timeout=timeout,
                            metadata=(("containerd-namespace", self.namespace),))
        return invoke


def create_task(engine, name, **fields):
    """The task of a container that `ctr container create` made; not started."""
    mounts = Api(engine, SNAPSHOTS).Mounts(snapshotter="overlayfs", key=name).mounts
    return Api(engine, TASKS).Create(
        container_id=name, rootfs=[json_format.MessageToDict(mount) for mount in mounts], **fields)
