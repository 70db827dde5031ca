package extract

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/nn/tower"
)

func openMotion(t testing.TB) *MotionEncoder {
	t.Helper()
	e, err := OpenMotion(Options{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Features, answers and vectors of captions are those of the network in float64, whose formula
// package tower's tests have; rows beyond a multiple of 4 do not count.
func TestMotionInDouble(t *testing.T) {
	e := openMotion(t)
	if i := e.Info(); i.Name != MotionName || i.Dim != 128 || i.SHA256 != encoderSHA256[MotionName] || i.Preset != "native" || i.Note != "motion-enc: not Inception" {
		t.Errorf("info %+v", i)
	}
	params := nn.NewParams(gpu.CPU(), gpu.Float64)
	net := tower.NewMotion(params.At(""), e.Spec().Network)
	params.Init(0)
	f, _, err := readEncoder(MotionName, new(struct{}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nn.LoadFrom(f, nn.LoadOptions{}, nn.Part{Of: params}); err != nil {
		t.Fatal(err)
	}
	near := func(what string, got []float32, want []float64) {
		t.Helper()
		for i, v := range want {
			if !(math.Abs(float64(got[i])-v) <= 1e-4*(1+math.Abs(v))) {
				t.Fatalf("%s %d: %v; in float64 %v", what, i, got[i], v)
			}
		}
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	for _, n := range []int{4, 40, 67} {
		rows := oracle.Normal(30, n*motionWidth)
		got := make([]float32, 128)
		if err := e.Features(rows, got); err != nil {
			t.Fatal(err)
		}
		whole := n / 4 * 4
		features := net.Forward(tape.Input(gpu.CPU().FromAs(gpu.Float64, rows[:whole*motionWidth], 1, whole, motionWidth)), nil)
		near("feature", got, features.Value().F64())
		near("answer", e.Answers(got), net.Heads(features).Value().F64())
		near("component", e.EmbedMotion(got), net.MotionEmbedding(features).Value().F64())
	}
	ids := []int32{1, 3, 10, 12, 2, 0, 0}
	v, err := e.EmbedCaption(ids)
	if err != nil {
		t.Fatal(err)
	}
	near("component of the caption", v, net.TextEmbedding(tape, gpu.CPU().FromInt32(ids, 1, len(ids))).Value().F64())
}

// A clip's features are the same to the last bit alone, and among others on all workers.
func TestMotionAlone(t *testing.T) {
	e := openMotion(t)
	const n = 12
	want, got := make([]float32, n*128), make([]float32, n*128)
	clip := func(i int) []float32 { return oracle.Normal(uint64(31+i), (40+4*(i%7))*motionWidth) }
	for i := range n {
		if err := e.Features(clip(i), want[i*128:(i+1)*128]); err != nil {
			t.Fatal(err)
		}
	}
	cpu.Each(n, func(_ *cpu.Worker, i int) {
		if err := e.Features(clip(i), got[i*128:(i+1)*128]); err != nil {
			panic(err)
		}
	})
	if !slices.Equal(got, want) {
		t.Error("features made at the same time are not those of single clips")
	}
}

func TestMotionRefuses(t *testing.T) {
	e := openMotion(t)
	out := make([]float32, 128)
	bad := oracle.Normal(1, 8*motionWidth)
	bad[3*motionWidth+7] = float32(math.NaN())
	for want, rows := range map[string][]float32{
		"100 numbers; want rows of 263": make([]float32, 100), "789 numbers": make([]float32, 3*motionWidth), "row 3, channel 7 is NaN": bad,
	} {
		if err := e.Features(rows, out); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v; want one with %q", err, want)
		}
	}
	for want, ids := range map[string][]int32{"without words": {0, 0}, "id 1 of the caption is 52": {1, 52}, "id 0 of the caption is -1": {-1}} {
		if _, err := e.EmbedCaption(ids); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v; want one with %q", err, want)
		}
	}
	if _, err := Open(MotionName, Options{}); err == nil || !strings.Contains(err.Error(), "it takes motions, not pictures") {
		t.Errorf("error %v", err)
	}
	if _, err := OpenMotion(Options{Tap: "64"}); err == nil || !strings.Contains(err.Error(), `tap "64"`) {
		t.Errorf("error %v", err)
	}
	oracle.Refuses(t, map[string]func(){
		"Answers: 3 features":     func() { e.Answers(make([]float32, 3)) },
		"room for 5 values; want": func() { _ = e.Features(oracle.Normal(1, 8*motionWidth), make([]float32, 5)) },
	})
}
