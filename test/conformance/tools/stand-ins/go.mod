module bulkhead/test/conformance/tools/stand-ins

go 1.26
