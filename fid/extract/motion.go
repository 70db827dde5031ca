package extract

import (
	"crypto/sha256"
	"fmt"
	"math"
	"sync"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
)

// MotionName is the name of the encoder of motions.
const MotionName = "motion-enc"

func init() {
	Register(Entry{
		Name: MotionName, Summary: "128 features of motions, rows of 263 numbers, built in: for the set motion and folders of .npy",
		Source: "scripts/encoders, docs/encoders.md",
		Open: func(o Options) (fid.Extractor, error) {
			if err := refuseOptions(o); err != nil {
				return nil, err
			}
			return nil, fmt.Errorf("it takes motions, not pictures: give motion:test, or a folder or archive with .npy of [rows, %d]", motionWidth)
		},
	})
}

// motionWidth is the numbers of a row, those of the layout motion.HumanML3D.
const motionWidth = 263

// MotionSpec is what the file of the encoder of motions says of it.
type MotionSpec struct {
	Name    string             `json:"name"`
	Network tower.MotionConfig `json:"network"`
	Heads   []Head             `json:"heads"`
}

// Check says what is wrong with a specification.
func (s *MotionSpec) Check() error {
	if err := s.Network.Check(); err != nil {
		return err
	}
	if c := s.Network.Channels; c != motionWidth {
		return fmt.Errorf("extract: encoder %s: rows of %d numbers, want %d", s.Name, c, motionWidth)
	}
	return checkHeads(s.Name, s.Heads, s.Network.Outputs)
}

// MotionEncoder is an encoder of motions and of their captions that this project trained. Clips go
// through the network one by one, so that a vector depends on its clip alone. It is safe for
// several goroutines.
type MotionEncoder struct {
	spec MotionSpec
	info fid.ExtractorInfo
	net  *tower.Motion

	mu   sync.Mutex
	idle []*nn.Tape
}

// OpenMotion makes the built-in encoder of motions. It refuses options that it has not.
func OpenMotion(o Options) (*MotionEncoder, error) {
	if err := refuseOptions(o); err != nil {
		return nil, fmt.Errorf("extract: %s: %w", MotionName, err)
	}
	var spec MotionSpec
	f, b, err := readEncoder(MotionName, &spec)
	if err != nil {
		return nil, err
	}
	if err := spec.Check(); err != nil {
		return nil, err
	}
	params := nn.NewParams(gpu.CPU(), gpu.Float32)
	net := tower.NewMotion(params.At(""), spec.Network)
	params.Init(0)
	if _, err := nn.LoadFrom(f, nn.LoadOptions{}, nn.Part{Of: params}); err != nil {
		return nil, err
	}
	return NewMotionEncoder(spec, params, net, fmt.Sprintf("%x", sha256.Sum256(b))), nil
}

// NewMotionEncoder makes an encoder of a network, for who trains one. sha256 says which weights it
// has. It panics where the specification's Check has an error.
func NewMotionEncoder(spec MotionSpec, params *nn.Params, net *tower.Motion, sha256 string) *MotionEncoder {
	if err := spec.Check(); err != nil {
		panic(err.Error())
	}
	params.Freeze(true)
	return &MotionEncoder{spec: spec, net: net, info: fid.ExtractorInfo{
		Name: spec.Name, SHA256: sha256, Dim: spec.Network.Dim, Preset: "native", Precision: plan.F32.String(), Note: EncoderNote(spec.Name),
	}}
}

// Info identifies the features.
func (e *MotionEncoder) Info() fid.ExtractorInfo { return e.info }

// Spec is what the encoder was made of.
func (e *MotionEncoder) Spec() MotionSpec { return e.spec }

// CheckRows refuses what is no clip: rows of 263 numbers, at least 4, all finite. Of a number of rows
// that is no multiple of 4 Features leaves the last ones out, as the published loaders do.
func (e *MotionEncoder) CheckRows(rows []float32) error {
	if len(rows)%motionWidth != 0 || len(rows) < tower.MotionStep*motionWidth {
		return fmt.Errorf("extract: %s: %d numbers; want rows of %d, at least %d of them", e.info.Name, len(rows), motionWidth, tower.MotionStep)
	}
	for i, v := range rows {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return fmt.Errorf("extract: %s: row %d, channel %d is %v; want finite numbers", e.info.Name, i/motionWidth, i%motionWidth, v)
		}
	}
	return nil
}

// Features writes the features of a clip, rows [T, 263] in metres and radians, not normalised, to
// out. It refuses what CheckRows refuses.
func (e *MotionEncoder) Features(rows, out []float32) error {
	if err := e.CheckRows(rows); err != nil {
		return err
	}
	n := len(rows) / motionWidth / tower.MotionStep * tower.MotionStep
	e.run(out, e.info.Dim, func(t *nn.Tape) *nn.Var {
		return e.net.Forward(t.Input(gpu.CPU().From(rows[:n*motionWidth], 1, n, motionWidth)), nil)
	})
	return nil
}

// Answers are the outputs of the heads, one after another, for one vector of features.
func (e *MotionEncoder) Answers(features []float32) []float32 {
	out := make([]float32, e.spec.Network.Outputs)
	e.run(out, len(out), func(t *nn.Tape) *nn.Var { return e.net.Heads(e.input(t, "Answers", features)) })
	return out
}

// EmbedMotion is the unit vector of a motion, from its features, in the space of captions.
func (e *MotionEncoder) EmbedMotion(features []float32) []float32 {
	out := make([]float32, e.spec.Network.Embed)
	e.run(out, len(out), func(t *nn.Tape) *nn.Var { return e.net.MotionEmbedding(e.input(t, "EmbedMotion", features)) })
	return out
}

func (e *MotionEncoder) input(t *nn.Tape, op string, features []float32) *nn.Var {
	if len(features) != e.info.Dim {
		panic(fmt.Sprintf("extract: %s: %s: %d features; want %d", e.info.Name, op, len(features), e.info.Dim))
	}
	return t.Input(gpu.CPU().From(features, 1, len(features)))
}

// EmbedCaption is the unit vector of a caption, ids of data/motion's vocabulary with padding of
// zeros at the end. It refuses ids that the vocabulary lacks and captions of padding alone.
func (e *MotionEncoder) EmbedCaption(ids []int32) ([]float32, error) {
	n := len(ids)
	for n > 0 && ids[n-1] == 0 {
		n--
	}
	if n == 0 {
		return nil, fmt.Errorf("extract: %s: a caption without words", e.info.Name)
	}
	for i, id := range ids[:n] {
		if id < 0 || int(id) >= e.spec.Network.Vocab {
			return nil, fmt.Errorf("extract: %s: id %d of the caption is %d; want 0 to %d", e.info.Name, i, id, e.spec.Network.Vocab-1)
		}
	}
	out := make([]float32, e.spec.Network.Embed)
	e.run(out, len(out), func(t *nn.Tape) *nn.Var { return e.net.TextEmbedding(t, gpu.CPU().FromInt32(ids[:n], 1, n)) })
	return out, nil
}

// run copies the n values of what f builds to out.
func (e *MotionEncoder) run(out []float32, n int, f func(t *nn.Tape) *nn.Var) {
	if len(out) != n {
		panic(fmt.Sprintf("extract: %s: room for %d values; want %d", e.info.Name, len(out), n))
	}
	e.mu.Lock()
	var t *nn.Tape
	if k := len(e.idle); k > 0 {
		t, e.idle = e.idle[k-1], e.idle[:k-1]
	} else {
		t = nn.NewTape(gpu.CPU(), gpu.Float32)
	}
	e.mu.Unlock()
	t.Run(func() { t.NoGrad(func() { copy(out, f(t).Value().F32()) }) })
	e.mu.Lock()
	e.idle = append(e.idle, t)
	e.mu.Unlock()
}
