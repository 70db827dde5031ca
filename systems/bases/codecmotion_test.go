package bases

import (
	"math"
	"slices"
	"testing"

	"github.com/fidlab/fidlab/data"
	motionset "github.com/fidlab/fidlab/data/motion"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/models/codec"
	"github.com/fidlab/fidlab/models/vq"
	"github.com/fidlab/fidlab/motion"
	"github.com/fidlab/fidlab/train"
)

// tinyMotion is the task of motions with a small network on few clips.
func tinyMotion() motionCodec {
	t := motionBase()
	t.recipe.Motion = &codec.MotionConfig{Channels: 263, Width: 32, Depth: 2, Codes: vq.ResidualConfig{
		Levels: 1, Book: vq.Config{Codes: 32, Width: 8, Average: true, Commit: 0.02, Start: vq.FirstBatch},
	}}
	t.train, t.held, t.scale = 60, 12, 20
	t.Settings = train.Settings{Steps: 8, Batch: 4, Rate: 2e-3, Schedule: "cosine", Warmup: 3, Clip: 1, Seeds: train.SeedsOf(5)}
	return t
}

// After few steps the codec gives clips back better than the mean row does, and its codes are in use.
func TestMotionCodecLearns(t *testing.T) {
	task := tinyMotion()
	s := task.Settings
	s.Steps, s.Batch, s.Rate = 300, 16, 4e-3
	set, err := task.clips(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var mean motionSums // of clips that stay in the mean row
	for _, it := range set.held {
		var rows []float32
		for range it.Len() {
			rows = append(rows, motion.Narrow(set.stats.Mean)...)
		}
		// The smooth L1 distance of normalised rows from 0, and half of that of positions.
		x := it.Rows(motion.HumanML3D)
		if err := motion.Normalize(set.stats, x); err != nil {
			t.Fatal(err)
		}
		for i, v := range x {
			d := math.Abs(float64(v))
			if d < 1 {
				d = d * d / 2
			} else {
				d -= 0.5
			}
			mean.loss += d / float64(len(x))
			if c := i % 263; c >= 4 && c < 67 {
				mean.loss += 0.5 * d / float64(len(x)/263*63)
			}
		}
		if err := mean.add(it, rows); err != nil {
			t.Fatal(err)
		}
	}
	job, err := task.make(t.Context(), gpu.CPU(), s)
	if err != nil {
		t.Fatal(err)
	}
	r, err := train.Run(t.Context(), job, train.Config{Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v: %.4g; of the mean row %.4g", job.Scores, r.Scores, mean.scores())
	for i, share := range map[int]float64{0: 0.8, 2: 0.8} {
		if want := share * mean.scores()[i]; !(r.Scores[i] < want) {
			t.Errorf("%s is %.4g, that of the mean row %.4g; want less than %.2g of it", job.Scores[i], r.Scores[i], mean.scores()[i], share)
		}
	}
	if used := r.Scores[slices.Index(job.Scores, "used")]; used < 0.5 {
		t.Errorf("%.2g of 32 codes are used, want half", used)
	}
}

// What the scores say of clips that stay as they are, that rise by a centimetre, that walk off, and that lose their contacts.
func TestMotionSums(t *testing.T) {
	set, l := motionset.New(1), motion.HumanML3D
	of := func(change func(row []float32)) []float64 {
		var s motionSums
		for i := range 6 {
			it := set.At(data.Val, i)
			rows := it.Rows(l)
			for at := 0; at < len(rows); at += l.Width {
				change(rows[at : at+l.Width])
			}
			if err := s.add(it, rows); err != nil {
				t.Fatal(err)
			}
		}
		return s.scores()[1:]
	}
	near := func(what string, got, want, tol float64) {
		t.Helper()
		if !(math.Abs(got-want) <= tol) {
			t.Errorf("%s is %g, want %g", what, got, want)
		}
	}
	same := of(func([]float32) {})
	for i, want := range []float64{0, 0, same[2], 1, 1, 1} {
		near("a score of clips that stay", same[i], want, 0)
	}
	if same[2] > 0.13 {
		t.Errorf("clips of the set skate by %g m/s", same[2])
	}
	up := of(func(row []float32) {
		row[3] += 0.01
		for j := 1; j < 22; j++ {
			row[l.Position(j)+1] += 0.01
		}
	})
	near("mpjpe of clips a centimetre higher", up[0], 10, 1e-3)
	near("pose of clips a centimetre higher", up[1], 0, 1e-3)
	bent := of(func(row []float32) { row[l.Position(15)+1] += 0.022 })
	near("mpjpe of a head 22 mm higher", bent[0], 1, 1e-3)
	near("pose of a head 22 mm higher", bent[1], 1, 1e-3)
	off := of(func(row []float32) {
		for k := range 4 {
			row[l.Contacts()+k] = 1 - row[l.Contacts()+k]
		}
	})
	near("contacts turned round", off[3], 0, 0)
}

// Windows are rows of the clip that is due, all of them inside it.
func TestMotionFeed(t *testing.T) {
	task := tinyMotion()
	set, err := task.clips(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	feed, order := newMotionFeed(set, gpu.CPU(), 8), train.NewOrder(set.len())
	inside := map[bool]int{}
	for n := range uint64(12) {
		b := &train.Batch{First: 8 * n, Size: 8, Seeds: train.SeedsOf(3)}
		x := feed.next(b).F32()
		for i := range 8 {
			clip := order.At(3, b.First+uint64(i))
			rows := set.rows[set.from[clip]:set.from[clip+1]]
			at := -1
			for r := 0; r+40*263 <= len(rows); r += 263 {
				if slices.Equal(rows[r:r+40*263], x[i*40*263:(i+1)*40*263]) {
					at = r / 263
				}
			}
			if at < 0 {
				t.Fatalf("window %d is not of clip %d", b.First+uint64(i), clip)
			}
			inside[at == len(rows)/263-40 && at > 0]++
			inside[at > 0]++
		}
	}
	if inside[true] == 0 || inside[false] == 0 {
		t.Errorf("windows begin at %v: never late, or always", inside)
	}
}

// A line is where it should be, soft at its edges, and cut at the picture's.
func TestLine(t *testing.T) {
	m := &imageio.Image{Width: 20, Height: 10, Pix: slices.Repeat([]uint8{255}, 600)}
	line(m, 5, 5, 40, 5, [3]uint8{0, 100, 0})
	line(m, math.NaN(), 5, 7, 5, [3]uint8{1, 1, 1})
	for y := range 10 {
		for x := range 20 {
			want := [3]uint8{255, 255, 255}
			if (y == 4 || y == 5) && x >= 5 { // half a pixel off: 0.75 of ink
				want = [3]uint8{64, 139, 64}
			} else if (y == 3 || y == 6) && x >= 5 || x < 5 && x > 2 && y > 2 && y < 7 {
				continue
			}
			if got := [3]uint8(m.Pix[3*(20*y+x):]); got != want {
				t.Errorf("pixel %d,%d is %v, want %v", x, y, got, want)
			}
		}
	}
}
