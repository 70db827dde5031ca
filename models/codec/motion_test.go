package codec_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/internal/oracle"
	"github.com/fidlab/fidlab/models/codec"
	"github.com/fidlab/fidlab/models/vq"
	"github.com/fidlab/fidlab/nn"
)

func motionNet(dt gpu.DType, c codec.MotionConfig) *codec.Motion {
	net := nn.NewParams(gpu.CPU(), dt)
	m := codec.NewMotion(net.At(""), c)
	for _, p := range net.All() { // positive, so that nothing cancels and no function cuts it off
		p.Start = nn.Fill(0.1)
		if strings.Contains(p.Name, "embedding") {
			p.Start = nn.Uniform(1)
		}
	}
	net.Init(2)
	return m
}

// What a change of one latent reaches is exactly what Receptive says, no more and no less.
func TestReceptiveIsWhatIsReached(t *testing.T) {
	for _, c := range []codec.MotionConfig{
		{Channels: 2, Width: 3, Downs: 2, Depth: 3}, {Channels: 2, Width: 3, Downs: 1, Depth: 2}, {Channels: 2, Width: 3, Downs: 3, Depth: 1},
	} {
		c.Codes = vq.ResidualConfig{Book: vq.Config{Codes: 4, Width: 3}}
		m := motionNet(gpu.Float64, c)
		f := c.Factor()
		const l, at = 80, 40
		decode := func(z []float64) (y []float64) {
			tape := nn.NewTape(gpu.CPU(), gpu.Float64)
			tape.NoGrad(func() { y = slices.Clone(m.Decode(tape.Input(gpu.CPU().From64(z, 1, l, 3))).Value().F64()) })
			return y
		}
		z := make([]float64, l*3)
		for i := range z {
			z[i] = 1
		}
		before := decode(z)
		z[at*3] = 2
		after := decode(z)
		back, ahead := 0, 0
		for i := range before {
			if before[i] != after[i] { // frame i/2 sees latent at
				own := i / 2 / f
				back, ahead = max(back, at-own), max(ahead, own-at)
			}
		}
		// A frame that sees a latent before it is that latent's look back.
		gotBack, gotAhead := m.Receptive()
		if gotBack != ahead || gotAhead != back {
			t.Errorf("%+v: Receptive says %d back and %d ahead, a change reaches %d and %d", c, gotBack, gotAhead, ahead, back)
		}
		t.Logf("downs %d, depth %d: %d back, %d ahead", c.Downs, c.Depth, gotBack, gotAhead)
	}
}

// What a stream gives out is the whole's decoding, and each frame as soon as it is final.
func TestStreamIsTheWhole(t *testing.T) {
	for _, dt := range []gpu.DType{gpu.Float64, gpu.Float32} {
		tol := 1e-12
		if dt == gpu.Float32 {
			tol = 1e-5
		}
		net := nn.NewParams(gpu.CPU(), dt)
		const levels, l, channels = 2, 40, 5
		m := codec.NewMotion(net.At(""), codec.MotionConfig{Channels: channels, Width: 8, Depth: 2, Codes: vq.ResidualConfig{Levels: levels, Book: vq.Config{Codes: 16, Width: 4}}})
		for _, p := range net.All() {
			if strings.Contains(p.Name, "embedding") {
				p.Start = nn.Normal(1)
			}
		}
		net.Init(3)
		idx := make([]int32, l*levels)
		for i, v := range oracle.Uniform(5, len(idx), 0, 16) {
			idx[i] = int32(v)
		}
		tape := nn.NewTape(gpu.CPU(), dt)
		_, ahead := m.Receptive()
		for _, use := range []int{1, 2} {
			var whole []float64
			tape.NoGrad(func() {
				y := m.DecodeIndices(tape, gpu.CPU().FromInt32(idx, 1, l, levels), use).Value()
				whole = make([]float64, y.Len())
				if y.Read64(whole) != nil {
					t.Fatal("no values")
				}
			})
			for _, piece := range []int{1, 3, l} {
				s := m.NewStream(use)
				var got []float64
				add := func(y *gpu.Tensor) {
					v := make([]float64, y.Len())
					if y.Read64(v) != nil {
						t.Fatal("no values")
					}
					got = append(got, v...)
				}
				for at := 0; at < l; at += piece {
					n := min(piece, l-at)
					y, err := s.Push(gpu.CPU().FromInt32(slices.Clone(idx[at*levels:(at+n)*levels]), n, levels))
					if err != nil {
						t.Fatal(err)
					}
					add(y)
					if want := 4 * max(0, at+n-ahead); s.Final() != want || len(got) != want*channels {
						t.Fatalf("%d frames of %d latents are out, want %d", s.Final(), at+n, want)
					}
				}
				add(s.Close())
				if len(got) != len(whole) {
					t.Fatalf("%d numbers, want %d", len(got), len(whole))
				}
				size := 0.0
				for _, v := range whole {
					size = max(size, math.Abs(v))
				}
				for i := range got {
					if math.Abs(got[i]-whole[i]) > tol*size {
						t.Fatalf("%v, pieces of %d: number %d is %v, the whole has %v", dt, piece, i, got[i], whole[i])
					}
				}
			}
		}
	}
}

func TestStreamRefuses(t *testing.T) {
	m := motionNet(gpu.Float32, codec.MotionConfig{Channels: 2, Width: 2, Depth: 1, Codes: vq.ResidualConfig{Levels: 2, Book: vq.Config{Codes: 4, Width: 2}}})
	s := m.NewStream(0)
	ids := func(shape []int, v ...int32) *gpu.Tensor { return gpu.CPU().FromInt32(v, shape...) }
	for want, idx := range map[string]*gpu.Tensor{
		"index 4 of level 1 at 0": ids([]int{1, 2}, 0, 4), "shape [1 3], want int32 [n, 2]": ids([]int{1, 3}, 0, 0, 0),
	} {
		if _, err := s.Push(idx); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if y := s.Close(); y.Len() != 0 {
		t.Errorf("%d frames of nothing", y.Len())
	}
	if _, err := s.Push(ids([]int{1, 2}, 0, 0)); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Error(err)
	}
	tape := nn.NewTape(gpu.CPU(), gpu.Float32)
	oracle.Refuses(t, map[string]func(){
		"NewStream: 3 levels, want 1 to 2":      func() { m.NewStream(3) },
		"codes of shape [1 2 3], want":          func() { m.Decode(tape.Const(0, 1, 2, 3)) },
		"motions of 3 frames, want a multiple":  func() { m.Features(tape.Const(0, 1, 3, 2)) },
		"indices of shape [1 2], want [n, leng": func() { m.DecodeIndices(tape, ids([]int{1, 2}, 0, 0), 1) },
	})
	for from, want := range map[string]string{
		"vqvae.encoder.model.2.1.model.0.conv1.weight": "encoder.model.2.1.model.0.conv1.weight", "vqvae.quantizer.codebook": "quantizer.layers.0.embedding.weight",
	} {
		if got := codec.MMMNames(from); got != want {
			t.Errorf("%s becomes %s, want %s", from, got, want)
		}
	}
}

// Padding of texts is not seen, texts are; learnt latents have gradients.
func TestTextOfTokens(t *testing.T) {
	net := nn.NewParams(gpu.CPU(), gpu.Float64)
	v := codec.NewViT(net.At(""), codec.ViTConfig{Channels: 1, Size: 4, Patch: 2, Width: 8, Heads: 2, Depth: 2, Latent: 3, Tokens: 2, Text: 4})
	fill(net)
	tape := nn.NewTape(gpu.CPU(), gpu.Float64)
	x := gpu.CPU().FromAs(gpu.Float64, oracle.Normal(1, 2*16), 2, 1, 4, 4)
	words := oracle.Normal(2, 2*6*4)
	run := func(l int, change float32) (y []float64) {
		tape.Run(func() {
			s := make([]float32, 0, 2*l*4)
			for b := range 2 {
				row := slices.Clone(words[b*24:][:l*4])
				row[4] += change
				s = append(s, row...)
			}
			text := codec.Text{States: tape.Input(gpu.CPU().FromAs(gpu.Float64, s, 2, l, 4)), Lens: gpu.CPU().FromInt32([]int32{3, 2}, 2)}
			z, _ := v.Encode(tape.Input(x), text, true)
			out := v.DecodeText(z, text)
			tape.Backward(out.Square().Sum())
			y = slices.Clone(out.Value().F64())
		})
		return y
	}
	y := run(3, 0)
	for i, w := range run(6, 0) {
		if math.Abs(y[i]-w) > 1e-13 {
			t.Fatalf("padding changes element %d from %v to %v", i, y[i], w)
		}
	}
	if slices.Equal(y, run(3, 0.5)) {
		t.Error("the text changes nothing")
	}
	for _, name := range []string{"encoder.latents", "decoder.latents", "decoder.blank", "encoder.text.weight", "decoder.text.weight"} {
		if norm(net.Get(name).Grad().F64()) == 0 {
			t.Errorf("no gradient reaches %s", name)
		}
	}
	z := tape.Const(0, 2, 2, 3)
	oracle.Refuses(t, map[string]func(){
		"no text, want states [2, length, 4]":  func() { v.Decode(z) },
		"a text of shape [1 3 4], want [2":     func() { v.DecodeText(z, codec.Text{States: tape.Const(0, 1, 3, 4)}) },
		"latents of shape [2 5 3], want [n, 2": func() { v.Decode(tape.Const(0, 2, 5, 3)) },
		"indices for continuous latents":       func() { v.DecodeIndices(tape, gpu.CPU().FromInt32([]int32{0, 1}, 1, 2), codec.Text{}) },
	})
	v.FreezePlaces()
	if !net.Get("encoder.en_pos_embedding").Frozen || net.Get("encoder.latents").Frozen {
		t.Error("not the places alone are frozen")
	}
}

// norm is the Euclidean norm.
func norm(v []float64) (s float64) {
	for _, x := range v {
		s += x * x
	}
	return math.Sqrt(s)
}
