package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/assets"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/report"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/tensor"
)

type proveOptions struct {
	tier      string
	short     bool
	dir       string
	overwrite bool
	fresh     bool
}

func newProve(a *app) *cobra.Command {
	var o proveOptions
	cmd := &cobra.Command{
		Use:   "prove NAME-or-NN...",
		Short: "Prove a paper's claim on small scale",
		Long: `Carry out a system's proof: tune every arm of its experiments with as many
trials, run each on the same noise over several seeds, and judge the paper's
claim by the paired intervals of ratios: pass, fail or inconclusive. "all" proves
every system that is built. Runs are kept in the cache as they are made, so an
interrupted proof goes on where it was, with the same program. Parts of proofs
stand on trained networks that ship beside the program (--assets): where one is
not there its part is "not run", and the verdict is of the others.

Exit code 1 tells that a claim failed, 4 that a proof is inconclusive.`,
		Example: `  fidlab prove --short gaussteleport
  fidlab prove 02 04 -o records/
  fidlab prove all --json | jq '.[] | {system, verdict}'`,
		Args: nargs("a system's name or number, or all", 1, -1),
		RunE: func(cmd *cobra.Command, args []string) error { return runProve(cmd.Context(), a, &o, args) },
	}
	f := cmd.Flags()
	f.StringVar(&o.tier, "tier", "full", "how thorough: full, short (a minute) or tiny (seconds)")
	f.BoolVar(&o.short, "short", false, "the same as --tier short")
	f.StringVarP(&o.dir, "output", "o", "", "write record, figures and samples into `DIR`")
	f.BoolVar(&o.overwrite, "overwrite", false, "replace files that exist in DIR")
	f.BoolVar(&o.fresh, "fresh", false, "make every run anew, whatever the cache has")
	f.SortFlags = false
	completes(cmd, "tier", "full", "short", "tiny")
	return cmd
}

func runProve(ctx context.Context, a *app, o *proveOptions, names []string) error {
	if o.short {
		if o.tier != "full" && o.tier != "short" {
			return usagef("--short and --tier %s: want one of them", o.tier)
		}
		o.tier = "short"
	}
	tier, err := systems.TierByName(o.tier)
	if err != nil {
		return usagef("--tier %q: want full, short or tiny", o.tier)
	}
	recipes, err := findRecipes(names)
	if err != nil {
		return err
	}
	if err := o.check(recipes); err != nil {
		return err
	}
	dev, err := a.openDevice("cpu")
	if err != nil {
		return err
	}
	build, err := programHash()
	if err != nil {
		return err
	}
	env := &systems.Env{Device: dev, Build: build, Version: version}
	if !o.fresh {
		dir, err := cacheFile(a.env.Getenv, "proofs")
		if err != nil {
			return err
		}
		env.Store = systems.DirStore(dir)
	}
	var records []*systems.Record
	var verdicts []error
	for _, r := range recipes {
		var bar *progress
		env.Progress = func(done, total int, next string) {
			if bar == nil {
				bar = a.progress(fmt.Sprintf("%02d %s", r.Number, r.Name), "runs", total)
			}
			bar.Set(done)
			if done < total {
				a.detail("%s", next)
			}
		}
		proof, err := systems.Prove(ctx, env, r, tier)
		if bar != nil {
			bar.End()
		}
		if err != nil {
			return proofError(err)
		}
		if o.dir != "" {
			if err := o.write(a, r, proof); err != nil {
				return err
			}
		}
		for _, n := range proof.Record.NotRun {
			if a.json { // else it is below the tables
				a.say("%02d %s: %s", r.Number, r.Name, n)
			}
			a.detail("%s", n.Reason)
		}
		records = append(records, proof.Record)
		if !a.json {
			if len(records) > 1 {
				a.printf("\n")
			}
			if err := proof.Record.WriteText(a.stdout); err != nil {
				return err
			}
		}
		if err := verdictError(proof.Record); err != nil {
			verdicts = append(verdicts, err)
		}
	}
	if a.json {
		if err := a.printJSON(records); err != nil {
			return err
		}
	}
	return worst(verdicts)
}

// findRecipes are the systems of those names; all is every one that is built.
func findRecipes(names []string) ([]systems.Recipe, error) {
	var out []systems.Recipe
	for _, name := range names {
		if name == "all" {
			out = append(out, systems.Recipes()...)
			continue
		}
		r, err := systems.Find(name)
		var none *systems.UnknownError
		switch {
		case errors.As(err, &none):
			return nil, unknown("system", name, none.Known)
		case err != nil:
			return nil, &usageError{err}
		}
		out = append(out, r)
	}
	return out, nil
}

// proofError gives a proof's errors their exit codes.
func proofError(err error) error {
	var hash *systems.HashError
	var shipped *assets.HashError
	var place *assets.PlaceError
	var plan *systems.PlanError
	switch {
	case errors.As(err, &hash), errors.As(err, &shipped), errors.As(err, &place):
		return &inputError{err}
	case errors.As(err, &plan):
		return &refusedError{err}
	}
	return err
}

// failedClaim is a proof whose claim failed.
type failedClaim struct{ error }

// verdictError is nil where the claim passed.
func verdictError(r *systems.Record) error {
	var failed, open []string
	for _, e := range r.Experiments {
		for _, c := range e.Criteria {
			switch name := e.Name + "/" + c.Name; {
			case c.Shown:
			case c.Verdict == systems.Fail:
				failed = append(failed, name)
			case c.Verdict == systems.Inconclusive:
				open = append(open, name)
			}
		}
	}
	switch r.Verdict {
	case systems.Fail:
		return failedClaim{fmt.Errorf("%02d %s: the claim failed: %s", r.Number, r.System, strings.Join(failed, " "))}
	case systems.Inconclusive:
		return refusedf("%02d %s: inconclusive: %s", r.Number, r.System, strings.Join(open, " "))
	}
	return nil
}

// worst joins verdicts; a claim that failed decides the exit code.
func worst(verdicts []error) error {
	var failed failedClaim
	all := errors.Join(verdicts...)
	if errors.As(all, &failed) {
		return errors.New(all.Error())
	}
	return all
}

// programHash identifies the program whose runs are kept.
func programHash() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	return tensor.FileSHA256(exe)
}

// stem is what a system's files begin with.
func stem(r systems.Recipe) string { return fmt.Sprintf("%02d-%s", r.Number, r.Name) }

// check tells before the long work what would keep the record from being written.
func (o *proveOptions) check(recipes []systems.Recipe) error {
	if o.dir == "" {
		return nil
	}
	if err := os.MkdirAll(o.dir, 0o777); err != nil {
		return err
	}
	for _, r := range recipes {
		t := target{filepath.Join(o.dir, stem(r)+".json"), o.overwrite}
		if err := t.check(); err != nil {
			return err
		}
	}
	return nil
}

// write puts a proof's files into the folder, the record last.
func (o *proveOptions) write(a *app, r systems.Recipe, p *systems.Proof) error {
	opt := target{overwrite: o.overwrite}.options()
	name := func(part, ending string) string { return filepath.Join(o.dir, stem(r)+part+ending) }
	for _, f := range r.Figures {
		lines, err := p.Record.Draw(f)
		if err != nil {
			return err
		}
		if err := tensor.WriteAtomic(name("-"+f.File, ".png"), lines.WritePNG, opt...); err != nil {
			return err
		}
	}
	for _, s := range p.Sheets {
		if !slices.Contains(r.Sheets, s.Experiment) {
			continue
		}
		path := name("-"+s.Experiment, ".png")
		if err := imageio.WritePNG(path, s.Image, opt...); err != nil {
			return err
		}
		a.say("%s: rows are %s", path, strings.Join(s.Rows, ", "))
	}
	path := name("", ".json")
	if err := tensor.WriteAtomic(path, func(w io.Writer) error { return report.WriteJSON(w, p.Record) }, opt...); err != nil {
		return err
	}
	a.say("%s: the record, %.0f s of runs", path, p.Record.Seconds)
	return nil
}
