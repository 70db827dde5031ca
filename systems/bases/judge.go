package bases

import (
	"context"
	"fmt"
	"slices"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

// Judge measures pictures of digits [n, 1, 28, 28] or [n, 1, 8, 8], values from -1 to 1, by the
// Fréchet distance of their features to those of MNIST's test digits. The features
// are a built-in encoder's (fidlab fid --features mnist). Pictures are rounded to
// 8 bits first, as files are, so that the distances are those of fidlab sample and
// fidlab fid.
//
// Few pictures raise every distance: compare those of equal numbers only, and with
// the Floor of that number.
type Judge struct {
	ex  fid.Extractor
	ref *fid.Reference
	set *pictureSet
}

// Features is how many the encoder has: as many pictures at least make a covariance of full rank.
const Features = 64

// OpenJudge makes the Judge whose reference is the first n test digits, at most all 10000, once in an Env.
func OpenJudge(ctx context.Context, env *systems.Env, n int) (*Judge, error) {
	return openJudge(ctx, env, n, "mnist", mnistPictures)
}

// OpenSmallJudge is OpenJudge of the digits of 8×8, in the features of digits-enc.
func OpenSmallJudge(ctx context.Context, env *systems.Env, n int) (*Judge, error) {
	return openJudge(ctx, env, n, "digits-enc", digitPictures)
}

// OpenJudgeOf is OpenJudge of digits that are made of those, by an encoder; name stands for them in an Env.
func OpenJudgeOf(ctx context.Context, env *systems.Env, n int, encoder, name string, learn, held *train.Examples) (*Judge, error) {
	return openJudge(ctx, env, n, encoder, func() (*pictureSet, error) {
		return &pictureSet{name: name, train: learn, held: held, classes: 10}, nil
	})
}

func openJudge(ctx context.Context, env *systems.Env, n int, encoder string, pictures func() (*pictureSet, error)) (*Judge, error) {
	set, err := pictures()
	if err != nil {
		return nil, err
	}
	return systems.Memo(env, fmt.Sprintf("judge %s %s %d", encoder, set.name, n), func() (*Judge, error) {
		j := &Judge{set: set}
		if j.ex, err = extract.Open(encoder, extract.Options{}); err != nil {
			return nil, err
		}
		size := len(set.held.X) / set.held.Len()
		n = min(n, set.held.Len())
		s, err := j.stats(ctx, set.held.X[:n*size])
		if err != nil {
			return nil, err
		}
		j.ref, err = fid.NewReference(s)
		return j, err
	})
}

// Append appends the features of pictures x to dst; they are those of search.Images.Features.
func (j *Judge) Append(ctx context.Context, _ int, x *gpu.Tensor, dst []float32) ([]float32, error) {
	v := make([]float32, x.Len())
	if err := x.Read(v); err != nil {
		return nil, err
	}
	f, err := j.features(ctx, v)
	return append(dst, f...), err
}

// features of pictures of the set's shape.
func (j *Judge) features(ctx context.Context, x []float32) ([]float32, error) {
	k := j.set.train.Shape
	size := k[0] * k[1] * k[2]
	return FeaturesOf(ctx, j.ex, len(x)/size, func(i int) *imageio.Image {
		return imageio.FromPlanar(x[i*size:][:size], k[0], k[1], k[2], 127.5, 127.5)
	})
}

// FeaturesOf are those of n pictures by an extractor, [n, Dim].
func FeaturesOf(ctx context.Context, ex fid.Extractor, n int, picture func(i int) *imageio.Image) ([]float32, error) {
	d, batch := ex.Info().Dim, ex.Batch()
	out := make([]float32, n*d)
	parts := (n + batch - 1) / batch
	errs := make([]error, parts)
	cpu.Each(parts, func(w *cpu.Worker, p int) {
		if errs[p] = ctx.Err(); errs[p] != nil {
			return
		}
		lo, hi := p*batch, min((p+1)*batch, n)
		imgs := make([]*imageio.Image, hi-lo)
		for i := range imgs {
			imgs[i] = picture(lo + i)
		}
		errs[p] = ex.Features(w, imgs, out[lo*d:hi*d])
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (j *Judge) stats(ctx context.Context, x []float32) (*fid.Stats, error) {
	f, err := j.features(ctx, x)
	if err != nil {
		return nil, err
	}
	return fid.FromFeatures(f, len(f)/Features, Features)
}

// Reference is that of the test digits.
func (j *Judge) Reference() *fid.Reference { return j.ref }

// FID is the distance of pictures x.
func (j *Judge) FID(ctx context.Context, x *gpu.Tensor) (float64, error) {
	v := make([]float32, x.Len())
	if err := x.Read(v); err != nil {
		return 0, err
	}
	s, err := j.stats(ctx, v)
	if err != nil {
		return 0, err
	}
	d, err := j.ref.Frechet(s)
	return d.Value, err
}

// Judge sets an outcome's fid and floor to those of the pictures x that a network drew, and keeps some of them where d is the first.
func (j *Judge) Judge(ctx context.Context, out *systems.Outcome, d systems.Draw, net *Network, x *gpu.Tensor) (err error) {
	if out.Values["fid"], err = j.FID(ctx, x); err != nil {
		return err
	}
	if out.Values["floor"], err = j.Floor(ctx, d.Env, d.Seed, d.N); err != nil {
		return err
	}
	if d.First {
		out.Pictures = net.Pictures(x, 12)
	}
	return nil
}

// real are n training digits, drawn by a seed.
func (j *Judge) real(ctx context.Context, seed uint64, n int) (*fid.Stats, error) {
	return j.stats(ctx, subset(j.set.train, n, seed))
}

// Floor is the distance of n training digits, drawn by a seed: what a perfect
// generator would have at that number.
func (j *Judge) Floor(ctx context.Context, env *systems.Env, seed uint64, n int) (float64, error) {
	return systems.Memo(env, fmt.Sprintf("floor %p %d %d", j, seed, n), func() (float64, error) {
		s, err := j.real(ctx, seed, n)
		if err != nil {
			return 0, err
		}
		d, err := j.ref.Frechet(s)
		return d.Value, err
	})
}

// Bias says by how much n pictures raise every distance.
func (j *Judge) Bias(ctx context.Context, env *systems.Env, n int) (string, error) {
	return systems.Memo(env, fmt.Sprintf("bias %p %d", j, n), func() (string, error) {
		s, err := j.real(ctx, biasSeed, n)
		if err != nil {
			return "", err
		}
		ci, err := fid.ConfidenceInterval(ctx, j.ref.Stats(), s, fid.IntervalOptions{Seed: biasSeed, Replicates: biasReplicates})
		if err != nil {
			return "", err
		}
		if ci.AtN {
			return fmt.Sprintf("%d pictures are too few for %d features: they raise every FID by %.3g or more (estimated on real digits); all arms have as many", n, Features, max(ci.Bias, 0)), nil
		}
		return fmt.Sprintf("%d pictures raise every FID by about %.3g (estimated on real digits); all arms have as many", n, max(ci.Bias, 0)), nil
	})
}

const (
	biasSeed       = 1 << 41 // no run's
	biasReplicates = 50
)

// DigitsTold is the share of digits, by their features of digits-enc, that its classifier takes for the given classes.
func DigitsTold(features []float32, classes []int) (float64, error) {
	e, err := extract.OpenEncoder("digits-enc")
	if err != nil {
		return 0, err
	}
	right := 0
	for i, c := range classes {
		a := e.Answers(features[i*Features:][:Features])[:10] // its first question
		if slices.Index(a, slices.Max(a)) == c {
			right++
		}
	}
	return float64(right) / float64(len(classes)), nil
}
