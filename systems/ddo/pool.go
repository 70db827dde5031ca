package ddo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"github.com/fidlab/fidlab/data"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/tensor"
	"github.com/fidlab/fidlab/train"
)

// The files of a round's folder, besides those of a training run.
const (
	PoolName  = "pool.safetensors"
	ModelName = "model.safetensors" // the best weights, as a checkpoint of the network's own task
)

// chosenPart is the part of a round's checkpoint that has the best weights.
const chosenPart = "chosen"

const metaPool = "fidlab.pool"

// poolHeader says what a pool is made of.
type poolHeader struct {
	Reference string `json:"reference"` // SHA-256 of its weights
	Sampler   string `json:"sampler"`
	Seed      uint64 `json:"seed"`
	N         int    `json:"n"`
}

// PoolError says that a pool is not what the round would make.
type PoolError struct {
	Path, Field, Have, Want string
}

func (e *PoolError) Error() string {
	return fmt.Sprintf("ddo: %s: its %s is %s, this round's is %s: fakes must be those of the reference that the network is held against; train into another folder, or begin this one anew",
		e.Path, e.Field, e.Have, e.Want)
}

// makePool draws the round's pool, or reads the one that is there when the run goes on.
func (r *round) makePool(ctx context.Context) (err error) {
	h := poolHeader{r.sum, r.base.Sampler, r.seed(), r.o.Pool}
	path := filepath.Join(r.dir, PoolName)
	if r.dir != "" && r.o.Resume {
		r.pool, err = readPool(path, h, r.set)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if r.pool, err = r.ref.Draw(ctx, h.Seed, h.N); err != nil {
		return err
	}
	if err := fits(r.pool, r.set); err != nil {
		return err
	}
	if r.dir == "" {
		return nil
	}
	if err := os.MkdirAll(r.dir, 0o777); err != nil {
		return fmt.Errorf("ddo: %w", err)
	}
	return writePool(path, h, r.pool, r.o.Overwrite)
}

// fits tells what of a pool does not fit the data.
func fits(pool, set *train.Examples) error {
	switch {
	case fmt.Sprint(pool.Shape) != fmt.Sprint(set.Shape):
		return data.Errorf("ddo: the reference draws examples of shape %v, the data are %v", pool.Shape, set.Shape)
	case (pool.Labels == nil) != (set.Labels == nil):
		return data.Errorf("ddo: classes in the pool: %t, in the data: %t; want both or none", pool.Labels != nil, set.Labels != nil)
	}
	return nil
}

func writePool(path string, h poolHeader, e *train.Examples, overwrite bool) error {
	text, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("ddo: %w", err)
	}
	list := stored(h.N, e.Shape, e.Labels != nil)
	list[0].Tensor.Set(e.X)
	for i, l := range e.Labels {
		list[1].Tensor.F32()[i] = float32(l)
	}
	if err := nn.Save(path, map[string]string{metaPool: string(text)}, []nn.Part{{Of: list}}, replacing(overwrite)...); err != nil {
		return fmt.Errorf("ddo: %w", err)
	}
	return nil
}

// stored are room for the tensors of a pool: x, and labels, as numbers, where there are classes.
func stored(n int, shape []int, classes bool) tensors {
	list := tensors{{Name: "x", Tensor: gpu.CPU().New(gpu.Float32, append([]int{n}, shape...)...)}}
	if classes {
		list = append(list, nn.Named{Name: "labels", Tensor: gpu.CPU().New(gpu.Float32, n)})
	}
	return list
}

// tensors are a Stater.
type tensors []nn.Named

// State implements nn.Stater.
func (t tensors) State() []nn.Named { return t }

// readPool reads a pool, which must be of that header.
func readPool(path string, want poolHeader, set *train.Examples) (*train.Examples, error) {
	f, err := tensor.OpenSafetensors(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var have poolHeader
	if err := json.Unmarshal([]byte(f.Meta[metaPool]), &have); err != nil {
		return nil, data.Errorf("ddo: %s: no pool of examples: its metadata: %w", path, err)
	}
	for _, c := range []struct {
		field      string
		have, want any
	}{
		{"reference", have.Reference, want.Reference}, {"sampler", have.Sampler, want.Sampler}, {"seed", have.Seed, want.Seed}, {"number", have.N, want.N},
	} {
		if c.have != c.want {
			return nil, &PoolError{path, c.field, fmt.Sprint(c.have), fmt.Sprint(c.want)}
		}
	}
	list := stored(want.N, set.Shape, f.Has("labels"))
	if _, err := nn.LoadFrom(f, nn.LoadOptions{}, nn.Part{Of: list}); err != nil {
		return nil, err
	}
	e := &train.Examples{X: list[0].Tensor.F32(), Shape: set.Shape}
	if len(list) > 1 {
		for _, l := range list[1].Tensor.F32() {
			e.Labels = append(e.Labels, int32(l))
		}
	}
	return e, fits(e, set)
}

// config is the round's part of a checkpoint: the network's own, and what it was fine-tuned by.
func (r *round) config() (map[string]json.RawMessage, error) {
	out := map[string]json.RawMessage{}
	if r.dir == "" {
		return out, nil // nobody reads it
	}
	if len(r.base.Config) > 0 {
		var own map[string]json.RawMessage
		if err := json.Unmarshal(r.base.Config, &own); err != nil {
			return nil, data.Errorf("ddo: the configuration of %s: %w", r.base.Job, err)
		}
		maps.Copy(out, own)
	}
	mine := map[string]any{"reference": r.sum, "round": r.k + 1, "data": r.set.SHA256()}
	if r.o.Likelihood {
		mine["likelihood"] = true
	} else {
		mine["alpha"], mine["beta"], mine["pool"], mine["sampler"] = r.o.Alpha, r.o.Beta, r.o.Pool, r.base.Sampler
	}
	text, err := json.Marshal(mine)
	if err != nil {
		return nil, fmt.Errorf("ddo: %w", err)
	}
	out["ddo"] = text
	return out, nil
}

// export writes the best weights beside the checkpoint.
func (r *round) export(path string) error {
	s, err := train.OpenSaved(path)
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = s.Export(filepath.Join(r.dir, ModelName), train.ExportOptions{Part: chosenPart, Of: "net"}, replacing(r.o.Overwrite || r.o.Resume)...)
	return err
}

// replacing is the option of files that may be there.
func replacing(on bool) []tensor.FileOption {
	if on {
		return []tensor.FileOption{tensor.Overwrite}
	}
	return nil
}
