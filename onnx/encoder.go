package onnx

import (
	"fmt"
	"slices"
	"sync"
)

// EncoderSpec says what the file of an encoder leaves open.
type EncoderSpec struct {
	Input, Output string // names; "" for the only input, and for the first output
	In, Out       []int  // of one picture; nil for what the file says
	Rows          int    // pictures at a time; 0 for what the file says, or any number
	// Generator says that the network goes the other way: its inputs are latents of any shape, and its outputs,
	// pictures or other latents, may be 8-bit levels.
	Generator bool
}

// Encoder is an open network that makes features of pictures: one input, and an output with a row for each picture; or pictures
// of latents. Calls of several goroutines wait for each other.
type Encoder struct {
	Input, Output Port
	In, Out       []int // of one picture
	Rows          int   // the number of pictures that the network always gets; 0: any

	what    string // a row is
	mu      sync.Mutex
	run     runner
	in, out array
}

// OpenEncoder opens the network at that path. Errors name what does not fit, with the file's inputs and outputs.
func OpenEncoder(path string, spec EncoderSpec, o Options) (*Encoder, error) {
	run, err := start(path, o)
	if err != nil {
		return nil, err
	}
	e, err := newEncoder(run, spec)
	if err != nil {
		run.close()
		return nil, fmt.Errorf("onnx: %s: %w", path, err)
	}
	return e, nil
}

func newEncoder(run runner, spec EncoderSpec) (*Encoder, error) {
	ins, outs := run.ports()
	e := &Encoder{run: run, Rows: spec.Rows, what: "picture"}
	dtypes, axes := []string{"float32", "float64", "float16"}, 4
	if spec.Generator {
		e.what, axes = "sample", 0
	}
	err := func() error {
		if len(ins) != 1 {
			return fmt.Errorf("want one input, the %ss, and there are %d", map[bool]string{false: "picture", true: "latent"}[spec.Generator], len(ins))
		}
		var err error
		if e.Input, err = portOf(ins, "input", spec.Input, dtypes); err != nil {
			return err
		}
		if spec.Generator {
			dtypes = append(dtypes, "uint8")
		}
		if e.Output, err = portOf(outs, "output", spec.Output, dtypes); err != nil {
			return err
		}
		if e.In, err = e.settle("input", e.Input, spec.In, axes); err != nil {
			return err
		}
		e.Out, err = e.settle("output", e.Output, spec.Out, 2)
		return err
	}()
	if err != nil {
		return nil, fmt.Errorf("%w; its inputs are %v, its outputs %v", err, ins, outs)
	}
	e.in.port, e.out.port = e.Input, e.Output
	return e, nil
}

// portOf is the port of that name, the first for none.
func portOf(ports []Port, what, name string, dtypes []string) (Port, error) {
	i := 0
	if name != "" {
		i = slices.IndexFunc(ports, func(p Port) bool { return p.Name == name })
	}
	if i < 0 || i >= len(ports) {
		return Port{}, fmt.Errorf("no %s %q", what, name)
	}
	if p := ports[i]; !slices.Contains(dtypes, p.DType) {
		return p, fmt.Errorf("the %s %s is %s; want floating-point numbers", what, p.Name, p.DType)
	}
	return ports[i], nil
}

// settle is the shape of one picture's part of a port, whose first axis is of pictures.
func (e *Encoder) settle(what string, p Port, given []int, axes int) ([]int, error) {
	if len(p.Shape) < max(axes, 2) || what == "input" && axes > 0 && len(p.Shape) != axes {
		return nil, fmt.Errorf("the %s %s has %d axes; want %d, the first of %ss", what, p.Name, len(p.Shape), max(axes, 2), e.what)
	}
	if rows := p.Shape[0]; rows > 0 {
		if e.Rows > 0 && e.Rows != rows {
			return nil, fmt.Errorf("the %s %s is of %d %ss, and %d are to be given", what, p.Name, rows, e.what, e.Rows)
		}
		e.Rows = rows
	}
	shape := slices.Clone(p.Shape[1:])
	if given != nil {
		if len(given) != len(shape) || !fits(shape, given) {
			return nil, fmt.Errorf("the %s %s of a %s is %v, and %v was asked for", what, p.Name, e.what, shape, given)
		}
		shape = slices.Clone(given)
	}
	for _, d := range shape {
		if d < 1 {
			return nil, fmt.Errorf("the file leaves open what the %s %s of a %s is, %v; it has to be given", what, p.Name, e.what, shape)
		}
	}
	return shape, nil
}

// Run writes the outputs of n pictures to out, [n, Out...], of x, [n, In...]. Where the network always gets a number of pictures,
// n is no more, and zeros stand for the others.
func (e *Encoder) Run(x []float32, n int, out []float32) error {
	in, each := size(e.In), size(e.Out)
	if n < 1 || e.Rows > 0 && n > e.Rows || len(x) < n*in || len(out) < n*each {
		panic(fmt.Sprintf("onnx: Encoder: %d pictures of %d with %d values and room for %d", n, e.Rows, len(x), len(out)))
	}
	rows := n
	if e.Rows > 0 {
		rows = e.Rows
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.in.reshape(rows, e.In)
	e.out.reshape(rows, e.Out)
	if e.Input.DType == "float32" && rows == n {
		e.in.f32 = x[:n*in]
	} else {
		e.in.fill(rows*in, 0)
		for i, v := range x[:n*in] {
			e.in.set(i, float64(v))
		}
	}
	direct := e.Output.DType == "float32" && rows == n
	if direct {
		e.out.f32 = out[:n*each]
	} else {
		e.out.buffer(rows * each)
	}
	if err := e.run.run([]*array{&e.in}, &e.out); err != nil {
		return fmt.Errorf("onnx: %w", err)
	}
	if !direct {
		for i := range n * each {
			out[i] = float32(e.out.at(i))
		}
	}
	return nil
}

// Close ends the session.
func (e *Encoder) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.run.close()
}
