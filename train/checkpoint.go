package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/nn"
	"github.com/fidlab/fidlab/tensor"
)

// CheckpointName is the checkpoint's name in a run's folder.
const CheckpointName = "checkpoint.safetensors"

// The members of a checkpoint's metadata.
const (
	metaConfig   = "fidlab.train"
	metaProgress = "fidlab.progress"
	metaVersion  = "fidlab.version"
)

// checkpointConfig is what a checkpoint says about its run, and what a run that goes on must agree with.
type checkpointConfig struct {
	Job      string          `json:"job"`
	Config   json.RawMessage `json:"config"`
	Settings Settings        `json:"settings"`
}

// checkpointProgress is where the run stood.
type checkpointProgress struct {
	Step    int  `json:"step"`
	Skipped int  `json:"skipped"`
	Pending bool `json:"pending"` // an evaluation or preview of the step is still to be made
}

// checkpoint is the file of a run.
type checkpoint struct {
	path   string
	config []byte
	parts  []nn.Part
	meta   map[string]string
}

// ConfigError says that a checkpoint is of a run with another configuration.
type ConfigError struct {
	Path, Field string // the field by its place: "settings.rate"
	Have, Want  string // in the checkpoint and in the run that should go on from it, as JSON; "" where it lacks the field
}

func (e *ConfigError) Error() string {
	say := func(v string) string {
		if v == "" {
			return "missing"
		}
		return v
	}
	return fmt.Sprintf("train: %s: %s is %s there and %s here; a run goes on under the configuration it began with: set it so, or train into another folder",
		e.Path, e.Field, say(e.Have), say(e.Want))
}

// ErrExists is the error for a folder that has a checkpoint, where the run should neither go on nor replace it.
var ErrExists = errors.New("train: the folder has a checkpoint")

// ErrNoCheckpoint is the error for a run that should go on where there is nothing to go on from.
var ErrNoCheckpoint = errors.New("train: the folder has no checkpoint")

// average is what an average is called in a checkpoint.
func average(decay float64) string { return "ema" + strconv.FormatFloat(decay, 'g', -1, 64) }

// parts are the tensors of a checkpoint: NET.…, opt.NET.…, emaDECAY.NET.…, and the job's own.
func (r *run) parts() []nn.Part {
	var out []nn.Part
	for _, n := range r.job.Nets {
		out = append(out, nn.Part{Prefix: n.Name + ".", Of: n.Params})
	}
	for _, n := range r.job.Nets {
		for _, e := range n.emas {
			out = append(out, nn.Part{Prefix: average(e.Decay) + "." + n.Name + ".", Of: e})
		}
	}
	for _, n := range r.job.Nets {
		out = append(out, nn.Part{Prefix: "opt." + n.Name + ".", Of: n.Optimizer})
	}
	out = append(out, nn.Part{Prefix: "log.", Of: r.sums})
	return append(out, r.job.State...)
}

// open reads or makes what is in the folder. A run that begins writes a checkpoint of step 0 at once: there is always one
// to go on from, and a disk that is full shows before the work.
func (r *run) open() error {
	dir := r.c.Dir
	if dir == "" {
		r.log = &log{}
		return nil
	}
	recipe, err := json.Marshal(r.job.Config)
	if err != nil {
		return fmt.Errorf("train: the job's Config: %w", err)
	}
	config, err := json.Marshal(checkpointConfig{r.job.Name, recipe, r.c.Settings})
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("train: %w", err)
	}
	r.file = &checkpoint{path: filepath.Join(dir, CheckpointName), config: config, parts: r.parts()}
	r.result.Path = r.file.path
	_, err = os.Lstat(r.file.path)
	switch {
	case err == nil && !r.c.Resume && !r.c.Overwrite:
		return fmt.Errorf("%w: %s; resume it, overwrite it, or take another folder", ErrExists, r.file.path)
	case errors.Is(err, fs.ErrNotExist) && r.c.Resume:
		return fmt.Errorf("%w: %s: a run that begins is not resumed", ErrNoCheckpoint, r.file.path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("train: %w", err)
	}
	// What a killed process was writing.
	torn, err := filepath.Glob(filepath.Join(dir, "."+CheckpointName+".*.tmp"))
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	for _, path := range torn {
		os.Remove(path) // one that stays harms nobody
	}
	if r.c.Resume {
		if err := r.resume(); err != nil {
			return err
		}
	}
	if r.log, err = openLog(dir, columns(r.job, r.phases), r.step); err != nil {
		return err
	}
	if err := r.openEvents(); err != nil {
		r.log.close()
		return err
	}
	if !r.c.Resume {
		if err := r.save(); err != nil {
			r.log.close()
			return err
		}
	}
	return nil
}

// openEvents opens the events where they are wanted, and where the run that goes on has some. What a run that is overwritten had goes.
func (r *run) openEvents() error {
	r.log.now = r.now
	old, err := eventFiles(r.c.Dir)
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	if r.c.TensorBoard || r.step > 0 && len(old) > 0 {
		return r.log.openEvents(r.c.Dir, r.step, r.pending)
	}
	for path := range old {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("train: %w", err)
		}
	}
	return nil
}

// resume takes over a checkpoint of the same configuration.
func (r *run) resume() error {
	f, err := tensor.OpenSafetensors(r.file.path)
	if err != nil {
		return err
	}
	defer f.Close()
	saved, err := readSaved(f)
	if err != nil {
		return err
	}
	if saved.Exported != nil {
		return fmt.Errorf("train: %s: it was exported, without the optimiser; a run goes on from its own checkpoint only", f.Path())
	}
	if err := differ(f.Path(), []byte(f.Meta[metaConfig]), r.file.config); err != nil {
		return err
	}
	var p checkpointProgress
	if err := json.Unmarshal([]byte(f.Meta[metaProgress]), &p); err != nil || p.Step < 0 {
		return fmt.Errorf("train: %s: %s is %q, want where the run stood", f.Path(), metaProgress, f.Meta[metaProgress])
	}
	if p.Step > r.c.Steps {
		return fmt.Errorf("train: %s: it has %d steps, the run is of %d; ask for more", f.Path(), p.Step, r.c.Steps)
	}
	if _, err := nn.LoadFrom(f, nn.LoadOptions{}, r.file.parts...); err != nil {
		return err
	}
	r.step, r.faults, r.pending = p.Step, p.Skipped, p.Pending
	return nil
}

// differ compares two configurations and names the first field in which they differ. The number of steps may differ
// where the learning rate does not depend on it.
func differ(path string, have, want []byte) error {
	a, err := flat(have)
	if err != nil {
		return fmt.Errorf("train: %s: %s: %w", path, metaConfig, err)
	}
	b, err := flat(want)
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	for _, c := range []map[string]string{a, b} {
		if _, ok := c["settings.precision"]; !ok { // of before there was a choice
			c["settings.precision"] = strconv.Quote(float32Name)
		}
	}
	if a["settings.schedule"] == `"constant"` {
		delete(a, "settings.steps")
		delete(b, "settings.steps")
	}
	all := maps.Clone(a)
	maps.Copy(all, b)
	fields := slices.Sorted(maps.Keys(all))
	for _, field := range append([]string{"job"}, fields...) { // another network differs in much else
		if a[field] != b[field] {
			return &ConfigError{path, field, a[field], b[field]}
		}
	}
	return nil
}

// flat is the values of a JSON document by their places.
func flat(doc []byte) (map[string]string, error) {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	out := map[string]string{}
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				walk(strings.TrimPrefix(at+"."+k, "."), e)
			}
		default: // lists are compared whole
			b, _ := json.Marshal(v) // of what was decoded
			out[at] = string(b)
		}
	}
	walk("", v)
	return out, nil
}

// save writes the checkpoint; the one before it is there until the new one is whole.
func (r *run) save() error {
	if r.file == nil {
		return nil
	}
	progress, _ := json.Marshal(checkpointProgress{r.step, r.faults, r.pending}) // numbers
	r.file.meta = map[string]string{metaConfig: string(r.file.config), metaProgress: string(progress)}
	if r.c.Version != "" {
		r.file.meta[metaVersion] = r.c.Version
	}
	if r.c.save != nil {
		return r.c.save(r.file)
	}
	return r.file.write()
}

func (c *checkpoint) write() error { return nn.Save(c.path, c.meta, c.parts, tensor.Overwrite) }

// preview draws and writes a picture. That it cannot be written is no reason to end a run.
func (r *run) preview(ctx context.Context) error {
	var img *imageio.Image
	err := r.swapped(func() (err error) {
		img, err = r.job.Sample(ctx, r.step)
		return err
	})
	if err != nil {
		return err
	}
	path := filepath.Join(r.c.Dir, fmt.Sprintf("samples-%07d.png", r.step))
	if err := imageio.WritePNG(path, img, tensor.Overwrite); err != nil {
		r.note("step %d: %v", r.step, err)
	}
	if err := r.log.preview(r.step, img); err != nil {
		r.note("step %d: %v; the events are kept until there is room", r.step, err)
	}
	return nil
}
