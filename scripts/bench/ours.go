package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/internal/cpu"
	"github.com/fidlab/fidlab/internal/cpu/plan"
	"github.com/fidlab/fidlab/tensor"
)

// own is our side of a row: a function that was prepared and warmed.
type own struct {
	work func() (answer, error)
	done func()
}

func (o own) run() (answer, error) {
	start := time.Now()
	a, err := o.work()
	a.Seconds = time.Since(start).Seconds()
	return a, err
}

func (o own) close() {
	if o.done != nil {
		o.done()
	}
}

// fromStatistics is the Fréchet distance of two statistics files in memory.
func fromStatistics(inputs string, n int) (runner, error) {
	var s [2]*fid.Stats
	for i, name := range []string{"ref", "gen"} {
		var err error
		if s[i], err = fid.ReadStats(filepath.Join(inputs, fmt.Sprintf("%s%d.npz", name, n))); err != nil {
			return nil, err
		}
	}
	return own{work: func() (answer, error) {
		d, err := fid.Frechet(s[0], s[1])
		return answer{Value: d.Value}, err
	}}, nil
}

// fromFeatures is the same from feature vectors in memory: means, covariances
// where they are needed, and the distance.
func fromFeatures(inputs string, n int) (runner, error) {
	var f [2][]float32
	for i, name := range []string{"ref", "gen"} {
		a, err := tensor.ReadNPY(filepath.Join(inputs, fmt.Sprintf("%s%d.npy", name, n)))
		if err != nil {
			return nil, err
		}
		f[i] = a.F32()
	}
	return own{work: func() (answer, error) {
		var s [2]*fid.Stats
		for i := range s {
			var err error
			if s[i], err = fid.FromFeatures(f[i], n, len(f[i])/n); err != nil {
				return answer{}, err
			}
		}
		d, err := fid.Frechet(s[0], s[1])
		return answer{Value: d.Value}, err
	}}, nil
}

// read returns the bytes of the first n files that match.
func read(pattern string, n int) ([][]byte, error) {
	names, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	sort.Strings(names)
	if len(names) < n {
		return nil, fmt.Errorf("%s: %d files; want %d", pattern, len(names), n)
	}
	out := make([][]byte, n)
	for i := range out {
		if out[i], err = os.ReadFile(names[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// network is the Inception network with recipe weights on 32 pictures of
// 299x299, on every worker: scaling included, decoding not.
func network(inputs string, precision plan.Precision) (runner, error) {
	e, err := extract.Open("random", extract.Options{Precision: precision})
	if err != nil {
		return nil, err
	}
	return features(e, inputs, 32)
}

// features are an extractor's of n pictures of 299x299, on every worker.
func features(e fid.Extractor, inputs string, n int) (runner, error) {
	files, err := read(filepath.Join(inputs, "net", "*.png"), n)
	if err != nil {
		return nil, err
	}
	var imgs []*imageio.Image
	for _, b := range files {
		img, err := imageio.Decode(b, imageio.DecodeOptions{})
		if err != nil {
			return nil, err
		}
		imgs = append(imgs, img)
	}
	dim, batch := e.Info().Dim, e.Batch()
	out := make([]float32, len(imgs)*dim)
	errs := make([]error, (len(imgs)+batch-1)/batch)
	o := own{work: func() (answer, error) {
		cpu.Each(len(errs), func(w *cpu.Worker, i int) {
			lo, hi := i*batch, min((i+1)*batch, len(imgs))
			errs[i] = e.Features(w, imgs[lo:hi], out[lo*dim:hi*dim])
		})
		for _, err := range errs {
			if err != nil {
				return answer{}, err
			}
		}
		var sum float64
		for _, v := range out {
			sum += float64(max(v, -v))
		}
		return answer{Items: len(imgs), Value: sum / float64(len(out))}, nil
	}}
	_, err = o.work() // warm
	return o, err
}

// decode is decoding and the resize of preset "clean" to 299x299 on one worker.
func decode(pattern string) (runner, error) {
	files, err := read(pattern, 64)
	if err != nil {
		return nil, err
	}
	const side = 299
	resize := imageio.NewResizer(imageio.PILFloat(imageio.Bicubic), side, side)
	dst, scratch := make([]float32, 3*side*side), new(imageio.Scratch)
	o := own{work: func() (a answer, err error) {
		cpu.Do(func(w *cpu.Worker) {
			for _, b := range files {
				var img *imageio.Image
				if img, err = imageio.DecodeOn(w, b, imageio.DecodeOptions{}); err != nil {
					return
				}
				resize.Into(dst, img, 1, 0, scratch)
				a.Items++
				a.Value += float64(dst[0]+dst[side+side/2]+dst[len(dst)-1]) / 3
			}
		})
		a.Value /= float64(len(files))
		return a, err
	}}
	_, err = o.work()
	return o, err
}

// fidOf finds the FID in the JSON that fidlab prints.
func fidOf(out string) (float64, error) {
	var r struct {
		Metrics map[string]struct{ Value float64 }
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return 0, fmt.Errorf("fidlab's answer: %w", err)
	}
	m, ok := r.Metrics["fid"]
	if !ok {
		return 0, fmt.Errorf("fidlab's answer has no fid: %.200s", out)
	}
	return m.Value, nil
}

// fidOfPeer finds the FID in pytorch-fid's "FID:  1.23".
func fidOfPeer(out string) (float64, error) {
	_, text, ok := strings.Cut(out, "FID:")
	if !ok {
		return 0, fmt.Errorf("pytorch-fid's answer has no FID: %.200s", out)
	}
	return strconv.ParseFloat(strings.TrimSpace(text), 64)
}
