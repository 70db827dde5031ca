//go:build native && cgo

package onnx

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/fidlab/fidlab/internal/cpu"
)

// opened is the one onnxruntime of this process: it can be opened once.
var opened struct {
	sync.Mutex
	path string
}

// Library is the file and version of the onnxruntime that getenv's environment
// leads to, opened and asked; the error says what was wrong with it or where to
// get one. The first library that opens serves the whole process.
func Library(getenv func(string) string) (path, version string, err error) {
	opened.Lock()
	defer opened.Unlock()
	if opened.path == "" {
		path, err := FindLibrary(getenv)
		if err != nil {
			return "", "", err
		}
		ort.SetSharedLibraryPath(path)
		if err := ort.InitializeEnvironment(); err != nil {
			return path, "", fmt.Errorf("onnx: %s cannot be used: %w (it must be onnxruntime 1.24 or later for this system); %s", path, err, Install)
		}
		opened.path = path
	}
	return opened.path, ort.GetVersion(), nil
}

// session is an open model.
type session struct {
	s       *ort.DynamicAdvancedSession
	binding *ort.IoBinding
	in, out []Port
}

func start(path string, o Options) (runner, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("onnx: %w", err)
	}
	if _, _, err := Library(o.Env()); err != nil {
		return nil, err
	}
	s := &session{}
	if err := s.open(path); err != nil {
		s.close()
		return nil, fmt.Errorf("onnx: %s: %w", path, err)
	}
	return s, nil
}

func (s *session) open(path string) error {
	// Only the signature is wanted of this first reading, so nothing is optimised.
	quick, err := options(ort.GraphOptimizationLevelDisableAll)
	if err != nil {
		return err
	}
	defer quick.Destroy()
	in, out, err := ort.GetInputOutputInfoWithOptions(path, quick)
	if err != nil {
		return err
	}
	if s.in, err = portsOf(in); err != nil {
		return err
	}
	if s.out, err = portsOf(out); err != nil {
		return err
	}
	full, err := options(ort.GraphOptimizationLevelEnableAll)
	if err != nil {
		return err
	}
	defer full.Destroy()
	if s.s, err = ort.NewDynamicAdvancedSession(path, names(s.in), names(s.out), full); err != nil {
		return err
	}
	s.binding, err = s.s.CreateIoBinding()
	return err
}

// options are those of a session: as many threads as the program's other work has.
func options(level ort.GraphOptimizationLevel) (*ort.SessionOptions, error) {
	o, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(
		o.SetGraphOptimizationLevel(level), o.SetIntraOpNumThreads(cpu.Workers()), o.SetInterOpNumThreads(1),
		o.SetLogSeverityLevel(ort.LoggingLevelError),
		// Threads that spin while they wait take the cores from the steps between two calls.
		o.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"),
	); err != nil {
		o.Destroy()
		return nil, err
	}
	return o, nil
}

func names(ports []Port) []string {
	var out []string
	for _, p := range ports {
		out = append(out, p.Name)
	}
	return out
}

var dtypes = map[ort.TensorElementDataType]string{
	ort.TensorElementDataTypeFloat: "float32", ort.TensorElementDataTypeDouble: "float64", ort.TensorElementDataTypeFloat16: "float16",
	ort.TensorElementDataTypeInt64: "int64", ort.TensorElementDataTypeInt32: "int32",
	ort.TensorElementDataTypeUint8: "uint8",
}

func portsOf(infos []ort.InputOutputInfo) ([]Port, error) {
	var out []Port
	for _, i := range infos {
		if i.OrtValueType != ort.ONNXTypeTensor {
			return nil, fmt.Errorf("%s is no tensor", i.Name)
		}
		p := Port{Name: i.Name, DType: dtypes[i.DataType]}
		if p.DType == "" {
			p.DType = i.DataType.String()
		}
		for _, d := range i.Dimensions {
			p.Shape = append(p.Shape, int(d))
		}
		out = append(out, p)
	}
	return out, nil
}

func (s *session) ports() (in, out []Port) { return s.in, s.out }

func (s *session) close() error {
	var err error
	if s.binding != nil {
		err = s.binding.Destroy()
		s.binding = nil
	}
	if s.s != nil {
		err = errors.Join(err, s.s.Destroy())
		s.s = nil
	}
	return err
}

// run binds the arrays' own memory, so that the runtime reads the inputs and
// writes the output where they are.
func (s *session) run(in []*array, out *array) error {
	if s.s == nil {
		return errors.New("the model is closed")
	}
	var pin runtime.Pinner // the runtime keeps the addresses until the bindings are cleared
	defer pin.Unpin()
	defer s.binding.ClearBoundInputs()
	defer s.binding.ClearBoundOutputs()
	for _, a := range in {
		v, err := bindable(a, &pin)
		if err != nil {
			return fmt.Errorf("input %s: %w", a.port.Name, err)
		}
		defer v.Destroy()
		if err := s.binding.BindInput(a.port.Name, v); err != nil {
			return fmt.Errorf("input %s: %w", a.port.Name, err)
		}
	}
	v, err := bindable(out, &pin)
	if err != nil {
		return fmt.Errorf("output %s: %w", out.port.Name, err)
	}
	defer v.Destroy()
	if err := s.binding.BindOutput(out.port.Name, v); err != nil {
		return fmt.Errorf("output %s: %w", out.port.Name, err)
	}
	return s.s.RunWithBinding(s.binding)
}

// bindable makes a value of the array's memory.
func bindable(a *array, pin *runtime.Pinner) (ort.Value, error) {
	switch a.port.DType {
	case "float32":
		return tensorOf(a, a.f32, pin)
	case "float64":
		return tensorOf(a, a.f64, pin)
	case "int64":
		return tensorOf(a, a.i64, pin)
	case "int32":
		return tensorOf(a, a.i32, pin)
	case "uint8":
		return tensorOf(a, a.u8, pin)
	}
	pin.Pin(&a.f16[0])
	shape := a.shape
	if len(shape) == 0 {
		shape = []int64{1}
	}
	return ort.NewCustomDataTensor(shape, unsafe.Slice((*byte)(unsafe.Pointer(&a.f16[0])), 2*len(a.f16)), ort.TensorElementDataTypeFloat16)
}

func tensorOf[T ort.TensorData](a *array, data []T, pin *runtime.Pinner) (ort.Value, error) {
	if len(a.shape) == 0 {
		return ort.NewScalar(data[0])
	}
	pin.Pin(&data[0])
	return ort.NewTensor(ort.NewShape(a.shape...), data)
}
