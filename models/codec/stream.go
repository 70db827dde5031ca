package codec

import (
	"fmt"

	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
)

// Receptive is how many latents before and after its own a frame of the decoder depends on.
// It follows from the layers: a frame is final once ahead more latents are known.
func (m *Motion) Receptive() (back, ahead int) {
	f := m.Config.Factor()
	for frame := range f { // of the latent at 0, by its place in it
		lo, hi := frame, frame
		grow := func(l *nn.Conv1D) {
			c, k := l.Config, l.W.Shape()[2]
			lo, hi = lo-c.Pad[0], hi-c.Pad[0]+max(1, c.Dilation)*(k-1)
		}
		grow(m.out)
		grow(m.decMid)
		for i := len(m.ups) - 1; i >= 0; i-- {
			grow(m.ups[i])
			lo, hi = lo>>1, hi>>1 // rounded down, below 0 too
			for j := len(m.decStacks[i]) - 1; j >= 0; j-- {
				grow(m.decStacks[i][j].conv2)
				grow(m.decStacks[i][j].conv1)
			}
		}
		grow(m.decIn)
		back, ahead = max(back, -lo), max(ahead, hi)
	}
	return back, ahead
}

// Stream decodes one motion while its indices arrive, and gives frames out once no later
// index can change them: those that Decode of the whole gives.
type Stream struct {
	m           *Motion
	levels      int
	tape        *nn.Tape
	back, ahead int

	idx    []int32 // of the latents from first on, Levels each
	first  int
	known  int // latents that arrived
	given  int // latents whose frames were given out
	closed bool
}

// NewStream makes a stream that uses the first levels of the books; 0 stands for all.
func (m *Motion) NewStream(levels int) *Stream {
	if levels == 0 {
		levels = m.Config.Codes.Levels
	}
	if levels < 1 || levels > m.Config.Codes.Levels {
		panic(fmt.Sprintf("codec: NewStream: %d levels, want 1 to %d", levels, m.Config.Codes.Levels))
	}
	w := m.out.W.Value
	s := &Stream{m: m, levels: levels, tape: nn.NewTape(w.Device(), w.DType())}
	s.back, s.ahead = m.Receptive()
	return s
}

// Push takes the next indices, Int32 [L, Levels], and returns the frames that are final now,
// [frames, Channels]; there may be none. It keeps no more latents than frames still need.
func (s *Stream) Push(idx *gpu.Tensor) (*gpu.Tensor, error) {
	if s.closed {
		return nil, fmt.Errorf("codec: the stream is closed; make a new one for another motion")
	}
	if err := s.m.Quantizer.Check(idx); err != nil {
		return nil, err
	}
	s.idx = append(s.idx, idx.I32()...)
	s.known += idx.Shape()[0]
	return s.emit(s.known - s.ahead), nil
}

// Close says that no more indices come, and returns the frames that are left.
func (s *Stream) Close() *gpu.Tensor {
	s.closed = true
	return s.emit(s.known)
}

// Final is how many frames were given out.
func (s *Stream) Final() int { return s.given * s.m.Config.Factor() }

// emit gives out the frames of the latents before end.
func (s *Stream) emit(end int) *gpu.Tensor {
	f, ch, levels := s.m.Config.Factor(), s.m.Config.Channels, s.m.Config.Codes.Levels
	n := max(0, end-s.given)
	out := s.m.out.W.Value.Device().New(s.tape.DType(), n*f, ch)
	if n == 0 {
		return out
	}
	if drop := s.given - s.back - s.first; drop > 0 {
		s.idx = append(s.idx[:0], s.idx[drop*levels:]...)
		s.first += drop
	}
	s.tape.Run(func() {
		s.tape.NoGrad(func() {
			l := s.known - s.first
			y := s.m.DecodeIndices(s.tape, gpu.CPU().FromInt32(s.idx[:l*levels], 1, l, levels), s.levels)
			from := (s.given - s.first) * f
			out.Copy(y.Reshape(l*f, ch).Value().Rows(from, from+n*f))
		})
	})
	s.given = max(s.given, end)
	return out
}
