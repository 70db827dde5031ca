package onnx

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/fidlab/fidlab/diffusion"
	"github.com/fidlab/fidlab/gpu"
)

// Options say how a model is opened.
type Options struct {
	Library string              // onnxruntime's file or folder; "": where FindLibrary finds it
	Getenv  func(string) string // default os.Getenv
	Sidecar *Sidecar            // instead of the file beside the model
}

// Env is the environment with the library named in it.
func (o *Options) Env() func(string) string {
	getenv := o.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	if o.Library == "" {
		return getenv
	}
	return func(name string) string {
		if name == LibraryEnv {
			return o.Library
		}
		return getenv(name)
	}
}

// Model is an open network. Calls of several goroutines wait for each other.
type Model struct {
	Inputs, Outputs []Port
	Sidecar         *Sidecar

	path  diffusion.Path
	pred  diffusion.Pred
	shape []int // of one sample
	rows  int   // images that the model gets at a time; 0: any number

	mu     sync.Mutex
	run    runner
	feeds  []*feed
	out    array
	stride int // values of one row of the output
}

// runner is an open file: onnxruntime's session, or a test's.
type runner interface {
	ports() (in, out []Port)
	// run computes the one output of that name from all inputs.
	run(in []*array, out *array) error
	close() error
}

// role is what an input is for.
type role uint8

const (
	asked    role = iota // the caller's, by name
	sample               // the state
	time                 // the noise level
	class                // the class
	constant             // a number of the sidecar
)

// feed is an input and what it holds in this call.
type feed struct {
	array
	role  role
	value float64 // of a constant
	each  bool    // one value for each image; else one for all
}

// Open reads a model and its sidecar, and starts a session of as many threads as
// the program's other work has. It refuses files that onnxruntime cannot run,
// and signatures that do not fit the sidecar, with the model's own one.
func Open(path string, o Options) (*Model, error) {
	side := o.Sidecar
	if side == nil {
		var err error
		if side, err = ReadSidecar(path); err != nil {
			return nil, err
		}
	}
	run, err := start(path, o)
	if err != nil {
		return nil, err
	}
	m, err := newModel(run, side)
	if err != nil {
		run.close()
		return nil, fmt.Errorf("onnx: %s: %w", path, err)
	}
	return m, nil
}

// Close ends the session.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.run.close()
}

// Path is where the network was trained, with its input's scaling.
func (m *Model) Path() diffusion.Path { return m.path }

// Pred is what it predicts.
func (m *Model) Pred() diffusion.Pred { return m.pred }

// Shape is that of one sample.
func (m *Model) Shape() []int { return m.shape }

// Asks lists the inputs that calls must bring, by name.
func (m *Model) Asks() []string {
	var names []string
	for _, f := range m.feeds {
		if f.role == asked {
			names = append(names, f.port.Name)
		}
	}
	return names
}

// TakesClass tells whether the model is conditioned on a class.
func (m *Model) TakesClass() bool {
	return slices.ContainsFunc(m.feeds, func(f *feed) bool { return f.role == class })
}

func newModel(run runner, side *Sidecar) (*Model, error) {
	m := &Model{run: run, Sidecar: side}
	m.Inputs, m.Outputs = run.ports()
	var err error
	if m.path, m.pred, err = side.Convention(); err != nil {
		return nil, err
	}
	if err := m.assign(); err != nil {
		return nil, fmt.Errorf("%w; its inputs are %v, its outputs %v", err, m.Inputs, m.Outputs)
	}
	if err := m.sizes(); err != nil {
		return nil, fmt.Errorf("%w; its inputs are %v, its outputs %v", err, m.Inputs, m.Outputs)
	}
	return m, nil
}

// find is the index of the port of that name, or, where none was asked for, of
// the usual name; -1 without one.
func find(ports []Port, field, name, usual string) (int, error) {
	want := name
	if want == "" {
		want = usual
	}
	i := slices.IndexFunc(ports, func(p Port) bool { return p.Name == want })
	if i < 0 && name != "" {
		return -1, fmt.Errorf("%s: there is no %q", field, name)
	}
	return i, nil
}

// assign gives every input its role.
func (m *Model) assign() error {
	side := m.Sidecar
	for _, p := range m.Inputs {
		if !known(p.DType) {
			return fmt.Errorf("input %s is of type %s; wanted float32, float64, float16, int64 or int32", p.Name, p.DType)
		}
		m.feeds = append(m.feeds, &feed{array: array{port: p}})
	}
	x, err := find(m.Inputs, "sample", side.Sample, "sample")
	if err != nil {
		return err
	}
	for i, p := range m.Inputs {
		if x < 0 && strings.HasPrefix(p.DType, "float") && len(p.Shape) >= 3 {
			x = i
		}
	}
	t, err1 := find(m.Inputs, "time_input", side.TimeInput, "timestep")
	c, err2 := find(m.Inputs, "class_input", side.ClassInput, "class_labels")
	out, err3 := find(m.Outputs, "output", side.Output, "")
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			return err
		}
	}
	if x < 0 || t < 0 || len(m.Outputs) == 0 {
		return fmt.Errorf("no input for the state and the time was found; name them in the sidecar's sample and time_input")
	}
	m.feeds[x].role, m.feeds[t].role = sample, time
	if c >= 0 {
		m.feeds[c].role = class
	}
	for name, v := range side.Values {
		i, err := find(m.Inputs, "values", name, "")
		if err != nil {
			return err
		}
		if m.feeds[i].role != asked {
			return fmt.Errorf("values: %s is the state, the time or the class", name)
		}
		m.feeds[i].role, m.feeds[i].value = constant, v
	}
	m.out.port = m.Outputs[max(out, 0)]
	if !strings.HasPrefix(m.out.port.DType, "float") || !known(m.out.port.DType) {
		return fmt.Errorf("output %s is of type %s; wanted float32, float64 or float16", m.out.port.Name, m.out.port.DType)
	}
	return nil
}

// sizes settles the sample's shape, how many images the model gets at a time,
// and which inputs have a value for each.
func (m *Model) sizes() error {
	var x *feed
	for _, f := range m.feeds {
		if f.role == sample {
			x = f
		}
	}
	dims := x.port.Shape
	if len(dims) < 2 {
		return fmt.Errorf("input %s has no axis for the batch", x.port.Name)
	}
	if m.shape = m.Sidecar.Shape; m.shape == nil {
		m.shape = dims[1:]
	}
	if !fits(dims[1:], m.shape) || slices.Contains(m.shape, -1) {
		return fmt.Errorf("input %s against a sample of shape %v: name one of its sizes in the sidecar's shape", x.port.Name, m.shape)
	}
	m.rows = m.Sidecar.Batch
	if fixed := dims[0]; fixed > 0 {
		if m.rows != 0 && m.rows != fixed {
			return fmt.Errorf("batch %d; the model takes %d at a time", m.rows, fixed)
		}
		m.rows = fixed
	}
	m.stride = size(m.shape)
	if o := m.out.port.Shape; len(o) == len(dims) && o[1] == 2*m.shape[0] && fits(o[2:], m.shape[1:]) {
		m.stride *= 2 // the second half of the channels is a variance
	} else if len(o) != len(dims) || !fits(o[1:], m.shape) {
		return fmt.Errorf("output %s against a sample of shape %v: wanted that shape, or twice its channels", m.out.port.Name, m.shape)
	}
	for _, f := range m.feeds {
		s := f.port.Shape
		f.each = len(s) > 0 && (s[0] < 0 || s[0] == m.rows)
		switch f.role {
		case time, class:
			if len(s) > 1 {
				return fmt.Errorf("input %s has %d axes; wanted one number, or one for each image", f.port.Name, len(s))
			}
		case constant:
			if len(s) > 1 && slices.Contains(s[1:], -1) {
				return fmt.Errorf("values: input %s is of open size", f.port.Name)
			}
		}
	}
	return nil
}

// fits tells whether shape is one of those that the file's sizes, -1 for any, allow.
func fits(declared, shape []int) bool {
	return slices.EqualFunc(declared, shape, func(d, s int) bool { return d < 0 || d == s })
}

func size(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// Forward writes to out the prediction for x, scaled as Path().Input says, at
// the path's times t, one per image. x and out are [n, Shape()...]; float32
// tensors on the CPU are given to a float32 model as they lie. classes is nil, for
// none, or one per image, -1 for none; inputs has [n, ...] for every name of Asks. A model
// that is told one time for all images is asked once for each time that there is, about
// the images of that time together.
func (m *Model) Forward(ctx context.Context, out, x *gpu.Tensor, t []float64, classes []int, inputs map[string]*gpu.Tensor) error {
	n := len(t)
	if s := x.Shape(); len(s) < 1 || s[0] != n || x.Len() != n*size(m.shape) || out.Len() != x.Len() {
		return fmt.Errorf("onnx: %d times for x of shape %v and an output of %v; the model takes samples of %v", n, s, out.Shape(), m.shape)
	}
	if err := m.checkInputs(n, classes, inputs); err != nil {
		return err
	}
	if dev := x.Device(); dev.CUDA() { // by way of the host: the session runs there
		host := map[string]*gpu.Tensor{}
		for name, in := range inputs {
			host[name] = in.To(gpu.CPU())
		}
		hx := x.To(gpu.CPU())
		if err := dev.Err(); err != nil {
			return err
		}
		ho := hx.Like()
		if err := m.Forward(ctx, ho, hx, t, classes, host); err != nil {
			return err
		}
		out.Copy(ho)
		return dev.Err()
	}
	if classes == nil {
		classes = slices.Repeat([]int{-1}, n)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	shape := append([]int{n}, m.shape...)
	x, out = x.View(shape...), out.View(shape...)
	if order := m.together(t, classes); order != nil {
		return m.inOrder(ctx, order, out, x, t, classes, inputs)
	}
	return m.pieces(ctx, out, x, t, classes, inputs)
}

// pieces asks the model about all images, as many at a time as it takes.
func (m *Model) pieces(ctx context.Context, out, x *gpu.Tensor, t []float64, classes []int, inputs map[string]*gpu.Tensor) error {
	n := len(t)
	for lo := 0; lo < n; {
		if err := ctx.Err(); err != nil {
			return err
		}
		hi := m.until(t, classes, lo)
		if err := m.piece(out.Rows(lo, hi), x.Rows(lo, hi), t, classes, inputs, lo, hi); err != nil {
			return fmt.Errorf("onnx: %w", err)
		}
		lo = hi
	}
	return nil
}

// until is where the piece that starts at image lo ends.
func (m *Model) until(t []float64, classes []int, lo int) int {
	hi := len(t)
	if m.rows > 0 {
		hi = min(hi, lo+m.rows)
	}
	for _, f := range m.feeds {
		for i := lo + 1; i < hi && !f.each; i++ {
			if f.role == time && t[i] != t[lo] || f.role == class && classes[i] != classes[lo] {
				hi = i
			}
		}
	}
	return hi
}

// piece asks the model for images lo to hi.
func (m *Model) piece(out, x *gpu.Tensor, t []float64, classes []int, inputs map[string]*gpu.Tensor, lo, hi int) error {
	rows := m.rows
	if rows == 0 {
		rows = hi - lo
	}
	in := make([]*array, len(m.feeds))
	for i, f := range m.feeds {
		in[i] = &f.array
		n := 1
		if f.each {
			n = rows
		}
		switch f.role {
		case sample:
			f.load(x, rows)
		case time:
			f.numbers(n, func(i int) float64 { return m.Sidecar.Time.told(m.path, t[min(lo+i, hi-1)]) })
		case class:
			f.numbers(n, func(i int) float64 { return float64(m.class(classes[min(lo+i, hi-1)])) })
		case constant:
			rest := f.port.Shape[min(1, len(f.port.Shape)):]
			if !f.each && len(f.port.Shape) > 0 {
				n = f.port.Shape[0]
			}
			f.reshape(n, rest)
			f.fill(n*size(rest), f.value)
		case asked:
			f.load(inputs[f.port.Name].Rows(lo, hi), rows)
		}
	}
	m.out.reshape(rows, m.outputShape())
	if m.stride == size(m.shape) && hi-lo == rows && m.out.direct(out) {
		return m.run.run(in, &m.out)
	}
	m.out.buffer(rows * m.stride)
	if err := m.run.run(in, &m.out); err != nil {
		return err
	}
	m.out.store(out, rows, m.stride)
	return nil
}

// numbers makes the array n of them.
func (f *feed) numbers(n int, v func(i int) float64) {
	f.reshape(n, nil)
	f.buffer(n)
	for i := range n {
		f.set(i, v(i))
	}
}

// outputShape is that of one row of the output.
func (m *Model) outputShape() []int {
	if m.stride == size(m.shape) {
		return m.shape
	}
	return append([]int{2 * m.shape[0]}, m.shape[1:]...)
}

// class is what the network calls class k.
func (m *Model) class(k int) int {
	if k < 0 {
		return *m.Sidecar.NoClass
	}
	return k
}

// checkInputs refuses calls that lack what the model is conditioned on, or bring
// what it knows nothing of.
func (m *Model) checkInputs(n int, classes []int, inputs map[string]*gpu.Tensor) error {
	for _, f := range m.feeds {
		if f.role != asked {
			continue
		}
		t := inputs[f.port.Name]
		if t == nil {
			return fmt.Errorf("onnx: the model asks for the input %s; give it in the condition", f.port)
		}
		if s := t.Shape(); len(s) == 0 || s[0] != n || !fits(f.port.Shape[min(1, len(f.port.Shape)):], s[1:]) {
			return fmt.Errorf("onnx: input %s: shape %v for %d images; the model takes %v", f.port.Name, s, n, f.port)
		}
	}
	for name := range inputs {
		if !slices.Contains(m.Asks(), name) {
			return fmt.Errorf("onnx: the model asks for no input %q; it asks for %v", name, m.Asks())
		}
	}
	if !m.TakesClass() {
		if slices.ContainsFunc(classes, func(k int) bool { return k >= 0 }) {
			return fmt.Errorf("onnx: the model has no input for a class")
		}
		return nil
	}
	if classes == nil && m.Sidecar.NoClass == nil {
		return fmt.Errorf("onnx: the model is conditioned on a class; give one for each image")
	}
	for i, k := range classes {
		if k < 0 && m.Sidecar.NoClass == nil {
			return fmt.Errorf("onnx: image %d has no class and the sidecar no no_class", i)
		}
		if most := m.Sidecar.Classes; most > 0 && k >= most {
			return fmt.Errorf("onnx: image %d wants class %d; the model has 0 to %d", i, k, most-1)
		}
	}
	return nil
}
