package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/fid"
)

type mergeOptions struct {
	parts []string
	out   target
}

func newMerge(a *app) *cobra.Command {
	var o mergeOptions
	cmd := &cobra.Command{
		Use:   "merge A.npz B.npz... -o F.npz",
		Short: "Join the statistics of the parts of one set, exactly",
		Long: `Join statistics of disjoint parts of one set, as if they had been computed
together. Each part must say how many images it summarises, as files of
fidlab stats do, and all must be made with one extractor and preset.`,
		Example: `  fidlab stats part1/ -o 1.npz && fidlab stats part2/ -o 2.npz
  fidlab merge 1.npz 2.npz -o all.npz`,
		Args: nargs("two or more statistics files", 2, -1),
		RunE: func(_ *cobra.Command, args []string) error {
			o.parts = args
			return runMerge(a, &o)
		},
	}
	o.out.flags(cmd.Flags(), "the statistics of all parts (.npz)")
	return cmd
}

func runMerge(a *app, o *mergeOptions) error {
	if err := o.out.check(); err != nil {
		return err
	}
	var parts []*fid.Stats
	for i, path := range o.parts {
		s, err := fid.ReadStats(path)
		if err != nil {
			return err
		}
		for _, earlier := range o.parts[:i] {
			if earlier == path {
				return inputf("%s is given twice; its images would count twice", path)
			}
		}
		parts = append(parts, s)
	}
	all, err := fid.MergeStats(parts...)
	if err != nil {
		return naming(err, o.parts)
	}
	if err := fid.WriteStats(o.out.path, all, o.out.options()...); err != nil {
		return err
	}
	return a.statsWritten(o.out.path, all)
}

// naming adds to an error that counts parts which files they are.
func naming(err error, parts []string) error {
	list := ""
	for i, p := range parts {
		if i > 0 {
			list += ", "
		}
		list += p
	}
	var bad *fid.BadInputError
	if errors.As(err, &bad) {
		return inputf("%w (parts: %s)", err, list)
	}
	return err
}

type statsWritten struct {
	File       string          `json:"file"`
	N          int             `json:"n"`
	Dim        int             `json:"dim"`
	Features   bool            `json:"features"` // kept in the file
	Provenance *fid.Provenance `json:"provenance"`
}

// statsWritten prints the result of stats and merge.
func (a *app) statsWritten(path string, s *fid.Stats) error {
	if a.json {
		return a.printJSON(statsWritten{File: path, N: s.N, Dim: s.Dim(), Features: s.Features != nil, Provenance: s.Provenance})
	}
	a.printf("%s\n", path)
	note := ""
	if s.Provenance != nil {
		note = s.Provenance.Extractor.Note
	}
	a.say("%s: %d vectors of %d features%s", path, s.N, s.Dim(), inBrackets(note))
	return nil
}
