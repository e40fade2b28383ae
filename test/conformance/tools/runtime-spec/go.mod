module bulkhead/test/conformance/tools/runtime-spec

go 1.19

require github.com/opencontainers/runtime-spec v1.2.1
