//go:build tools

// Package tools names what critest, which is a test binary, imports.
package tools

import (
	_ "github.com/kubernetes-sigs/cri-tools/pkg/benchmark"
	_ "github.com/kubernetes-sigs/cri-tools/pkg/validate"
)
