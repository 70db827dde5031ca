package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/fid"
	"github.com/fidlab/fidlab/tensor"
)

type watchOptions struct {
	fidOptions
	dir    string
	poll   time.Duration
	settle time.Duration
	total  time.Duration
	once   bool
	log    string
}

func newWatch(a *app) *cobra.Command {
	var o watchOptions
	cmd := &cobra.Command{
		Use:   "watch REF DIR",
		Short: "Score the sets that a training run writes into a folder, as they come",
		Long: `Compare every set that appears in the folder DIR with the reference REF: each
folder in it, archive (.zip, .tar, .tar.gz, .tgz), .npz and .npy is one set, and
is scored once it has stayed as it is for --settle. A line each goes to standard
output: name, FID, and "best", "worse" where the interval of the difference from
the best set so far leaves 0 out, or "even". Hidden names and those that end in
.tmp or .part are left alone, so whoever writes a set under such a name and
renames it is never read half.

What cannot be scored is told once, with the reason, and tried again when it
changes. --log FILE keeps what was found, a line of JSON each; a watch that
begins with it does not score those sets again, as long as they stay as they
were. --report is a page with the curve, written anew after each set; the number
at the end of a name is its step.

It ends after --for, with Ctrl-C (exit code 130), or with --once when all that
is there has been looked at.

REF is as INPUT in fidlab fid --help.`,
		Example: `  fidlab watch real.npz runs/samples --log fid.jsonl --report fid.html
  fidlab watch mnist:test runs/samples --once --json`,
		Args: nargs("a reference and a folder", 2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.ref, o.dir, o.metrics, o.splits = args[0], args[1], []string{"fid"}, 10
			return runWatch(cmd.Context(), a, &o)
		},
	}
	o.x.flags(cmd)
	f := cmd.Flags()
	f.DurationVar(&o.poll, "every", 10*time.Second, "look into the folder every `TIME`")
	f.DurationVar(&o.settle, "settle", 5*time.Second, "score a set once it has not changed for `TIME`")
	f.DurationVar(&o.total, "for", 0, "end after `TIME`; 0 goes on")
	f.BoolVar(&o.once, "once", false, "score what is there, and end")
	f.StringVar(&o.log, "log", "", "keep the results in `FILE.jsonl`, and go on from it")
	f.StringVar(&o.report.path, "report", "", "write a page with the curve to `FILE.html`, again after each set")
	f.BoolVar(&o.noCI, "no-ci", false, "estimate no intervals, which is faster; nothing is called worse then")
	f.Float64Var(&o.ciLevel, "ci-level", 0.95, "confidence `LEVEL` of the intervals")
	f.Uint64Var(&o.seed, "seed", 0, "seed `S` of the intervals' resamples")
	return cmd
}

func (o *watchOptions) check() error {
	if o.poll <= 0 || o.settle < 0 || o.total < 0 {
		return usagef("--every %v, --settle %v, --for %v: want times, --every above 0", o.poll, o.settle, o.total)
	}
	if o.ref == "-" {
		return usagef("the reference is -, which is read once; write it to a file")
	}
	st, err := os.Stat(o.dir)
	if err != nil {
		return &inputError{err}
	}
	if !st.IsDir() {
		return inputf("%s: a file; want the folder that the sets appear in", o.dir)
	}
	o.report.overwrite = true // it is written again and again
	o.ci, o.gen = true, o.dir
	return o.fidOptions.check()
}

// watchedSet is a set that was looked at.
type watchedSet struct {
	Set    string      `json:"set"` // its name in the folder
	Step   int         `json:"step,omitempty"`
	State  string      `json:"state"` // best, worse, even, bad
	N      int         `json:"n,omitempty"`
	FID    *float64    `json:"fid"` // nil where it could not be scored
	CI     *[2]float64 `json:"ci"`
	Behind *float64    `json:"behind"` // FID less the best one's before
	Error  string      `json:"error,omitempty"`
	Print  string      `json:"fingerprint"` // of names, sizes and times of the set's files
	At     time.Time   `json:"at"`
}

// watcher is a folder under watch.
type watcher struct {
	a    *app
	o    *watchOptions
	ref  *input
	e    fid.Extractor
	sets []watchedSet
	best *fid.Stats // of the best set of this call; nil where it is from the log
	seen map[string]sighting
}

// sighting is what a set looked like, and since when.
type sighting struct {
	print string
	since time.Time
}

func runWatch(ctx context.Context, a *app, o *watchOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	w := &watcher{a: a, o: o, seen: map[string]sighting{}}
	if err := w.readLog(); err != nil {
		return err
	}
	var err error
	if w.ref, err = a.openSet(ctx, &o.x, o.ref); err != nil {
		return err
	}
	defer w.ref.close()
	if w.ref.src != nil {
		if err := w.open(ctx, w.ref); err != nil {
			return err
		}
		if err := w.collect(ctx, w.ref); err != nil {
			return err
		}
	}
	var end <-chan time.Time
	if o.total > 0 {
		end = time.After(o.total)
	}
	for {
		if err := w.look(ctx); err != nil {
			return err
		}
		if o.once && len(w.seen) == 0 {
			break
		}
		pause := o.poll
		if o.once {
			pause = min(pause, max(o.settle, 10*time.Millisecond))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end:
			return w.finish()
		case <-time.After(pause):
		}
	}
	return w.finish()
}

// finish writes the whole result as JSON where that is asked for.
func (w *watcher) finish() error {
	if !w.a.json {
		return nil
	}
	return w.a.printJSON(map[string]any{"reference": w.o.ref, "folder": w.o.dir, "sets": w.sets})
}

// look scores what has settled; seen holds what has not.
func (w *watcher) look(ctx context.Context) error {
	names, err := setsIn(w.o.dir)
	if err != nil {
		return err
	}
	for name := range w.seen {
		if !slices.Contains(names, name) {
			delete(w.seen, name)
		}
	}
	for _, name := range names {
		print, newest, err := fingerprint(filepath.Join(w.o.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has gone since
		}
		if err != nil {
			return &inputError{err}
		}
		if print == "" || slices.ContainsFunc(w.sets, func(s watchedSet) bool { return s.Set == name && s.Print == print }) {
			delete(w.seen, name)
			continue
		}
		if s, ok := w.seen[name]; !ok || s.print != print {
			w.seen[name] = sighting{print, time.Now()}
		}
		// Times of other machines' clocks may lie ahead; what was seen here counts as well.
		quiet := min(time.Since(newest), time.Since(w.seen[name].since))
		if old := time.Since(newest); w.o.once || old > 24*time.Hour {
			quiet = old
		}
		if quiet < w.o.settle {
			continue
		}
		delete(w.seen, name)
		if err := w.score(ctx, name, print); err != nil {
			return err
		}
	}
	return nil
}

// score compares one set, tells and keeps what came of it. Its error is of what has nothing to do with the set.
func (w *watcher) score(ctx context.Context, name, print string) error {
	r := watchedSet{Set: name, Step: stepOf(name), Print: print, At: time.Now().UTC().Truncate(time.Second)}
	in, err := w.a.openSet(ctx, &w.o.x, filepath.Join(w.o.dir, name), w.o.ref)
	if err == nil {
		defer in.close()
		if w.e == nil && in.src != nil {
			if err := w.open(ctx, in); err != nil {
				return err // no set could be scored
			}
		}
		err = w.compare(ctx, in, &r)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		if again, _, printErr := fingerprint(filepath.Join(w.o.dir, name)); printErr != nil || again != print {
			w.seen[name] = sighting{again, time.Now()} // it changed meanwhile, which explains it
			return nil
		}
		r.State, r.Error = "bad", err.Error()
		w.a.say("%s: not scored: %v", name, err)
	}
	w.sets = append(w.sets, r)
	if r.FID != nil && !w.a.json {
		behind := ""
		if r.Behind != nil && r.State != "best" {
			behind = fmt.Sprintf(" (%+.4f)", *r.Behind)
		}
		w.a.printf("%s %s %s%s%s\n", name, valueText(*r.FID), r.State, behind, inBrackets(extractorNote(w.ref)))
	}
	if err := w.appendLog(r); err != nil {
		return err
	}
	if w.o.report.path == "" {
		return nil
	}
	return tensor.WriteAtomic(w.o.report.path, w.page().WriteHTML, w.o.report.options()...)
}

// open opens the extractor, for pictures like the set's.
func (w *watcher) open(ctx context.Context, in *input) (err error) {
	w.e, err = w.a.openFitting(ctx, &w.o.x, in.src, w.ref, in)
	return err
}

// collect extracts the features of a set of pictures.
func (w *watcher) collect(ctx context.Context, in *input) error {
	c, err := w.a.collect(ctx, in, w.e, &w.o.x, keeping{interval: !w.o.noCI})
	if err != nil {
		return err
	}
	w.a.saySkipped(c.Summary.Bad)
	return nil
}

// compare compares the set with the reference, and with the best set so far.
func (w *watcher) compare(ctx context.Context, in *input, r *watchedSet) error {
	if in.src != nil {
		if err := w.collect(ctx, in); err != nil {
			return err
		}
	}
	opt, err := w.o.compare(w.a)
	if err != nil {
		return err
	}
	res, err := fid.Compare(ctx, w.ref.stats, in.stats, opt)
	if err != nil {
		return err
	}
	v := res.Metrics["fid"].(fid.FIDValue)
	r.N, r.FID, r.CI = in.stats.N, &v.Value, v.CI
	for _, n := range res.Notes {
		w.a.detail("note: %s: %s", r.Set, n)
	}
	return w.judge(ctx, in.stats, r)
}

// judge compares the set with the best one before it.
func (w *watcher) judge(ctx context.Context, s *fid.Stats, r *watchedSet) error {
	best := w.bestBefore()
	if best != nil {
		behind := *r.FID - *best.FID
		r.Behind = &behind
	}
	switch {
	case best == nil || *r.FID < *best.FID:
		r.State, w.best = "best", s
	case w.best == nil || w.o.noCI:
		r.State = "even" // nothing tells more
	default:
		order, err := fid.Rank(ctx, w.ref.stats, []*fid.Stats{w.best, s}, fid.IntervalOptions{Level: w.o.ciLevel, Seed: w.o.seed})
		if err != nil {
			return err
		}
		if r.State = "even"; order[1].Distinct() {
			r.State = "worse"
		}
	}
	return nil
}

// bestBefore is the set of the least FID so far; nil for none.
func (w *watcher) bestBefore() *watchedSet {
	var best *watchedSet
	for i := range w.sets {
		if s := &w.sets[i]; s.FID != nil && (best == nil || *s.FID < *best.FID) {
			best = s
		}
	}
	return best
}

// readLog reads what an earlier watch found.
func (w *watcher) readLog() error {
	if w.o.log == "" {
		return nil
	}
	b, err := os.ReadFile(w.o.log)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &inputError{err}
	}
	lines := bytes.Split(b, []byte("\n"))
	for i, line := range lines {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var s watchedSet
		if err := json.Unmarshal(line, &s); err != nil || s.Set == "" {
			if i > 0 && i == len(lines)-1 { // without an end of line: a watch ended while it wrote
				w.a.say("%s: its last line is cut, and left out", w.o.log)
				if err := os.Truncate(w.o.log, int64(len(b)-len(line))); err != nil {
					return err
				}
				break
			}
			return inputf("%s: line %d is none of fidlab watch; give another file for --log", w.o.log, i+1)
		}
		w.sets = append(w.sets, s)
	}
	w.a.say("%s: %d sets were looked at before", w.o.log, len(w.sets))
	return nil
}

// appendLog adds a line to the log.
func (w *watcher) appendLog(r watchedSet) error {
	if w.o.log == "" {
		return nil
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(w.o.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// setsIn are the names in a folder that can be sets, in the order of their steps and then of their names.
func setsIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, &inputError{err}
	}
	var names []string
	for _, e := range entries {
		name := strings.ToLower(e.Name())
		if strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, ".part") {
			continue
		}
		archive := slices.ContainsFunc([]string{".zip", ".tar", ".tar.gz", ".tgz", ".npz", ".npy"}, func(ext string) bool { return strings.HasSuffix(name, ext) })
		if e.IsDir() || archive {
			names = append(names, e.Name())
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return stepOf(a) - stepOf(b) })
	return names, nil
}
