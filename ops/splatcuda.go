package ops

import (
	"errors"

	"github.com/fidlab/fidlab/gpu"
)

type splatGPU struct{}

func (*splatGPU) free() {}

var errSplatNoKernel = errors.New("ops: SplatForward: there are no kernels for it; move the parameters to gpu.CPU()")

func (a *SplatAux) forwardCUDA(*gpu.Tensor) error { return errSplatNoKernel }

func (a *SplatAux) checkCUDA() error { return errSplatNoKernel }

func (a *SplatAux) coverageCUDA() *gpu.Tensor { return nil }

func (a *SplatAux) backwardCUDA(*SplatGrads, *gpu.Tensor, *gpu.Tensor) error { return errSplatNoKernel }
