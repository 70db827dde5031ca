package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/data/folder"
	"github.com/fidlab/fidlab/gpu"
	"github.com/fidlab/fidlab/systems"
	"github.com/fidlab/fidlab/train"
)

// trainData is the set that the user brings to train on.
type trainData struct {
	set folder.Options
	on  trainOn
}

// dataFlags are those that say which set it is and how it is read.
var dataFlags = []string{"data", "size", "fit", "resize", "labels", "skip-bad"}

func (o *trainData) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.set.Input, "data", "", "image-…: learn the pictures of the `INPUT`, a folder or an archive")
	f.IntVar(&o.set.Size, "size", 32, "image-…: make them `N` pixels high and wide")
	f.StringVar(&o.set.Fit, "fit", folder.Crop, "image-…: make them square by `F`: "+strings.Join(folder.Fits(), ", "))
	f.StringVar(&o.set.Resize, "resize", "", "image-…: by the `WAY` of fidlab resize; default: pil-u8-lanczos")
	f.StringVar(&o.set.Labels, "labels", folder.Auto, "image-…: take the classes from `L`: auto, folders, prefix, none, or a .json, .csv, .jsonl or .parquet")
	f.IntVar(&o.set.Skip, "skip-bad", 0, "image-…: leave out up to `N` pictures that cannot be used, and list them")
	o.on.flags(f)
	completes(cmd, "fit", folder.Fits()...)
}

// check refuses a set for a task that has its own, and a task without one.
func (o *trainData) check(t systems.Task, given func(flag string) bool) error {
	if err := o.on.check(t, given); err != nil {
		return err
	}
	if t.MakeFrom != nil {
		if o.set.Input == "" {
			return usagef("%s learns pictures that you bring; give --data with a folder or an archive of them", t.Name)
		}
		return nil
	}
	for _, f := range dataFlags {
		if given(f) {
			return usagef("--%s: %s has data of its own; image-unet and image-dit learn yours", f, t.Name)
		}
	}
	return nil
}

// follow takes from a checkpoint how pictures were made one size, as far as it is not said anew.
func (o *trainData) follow(s *train.Saved, given func(flag string) bool) {
	o.on.resumed = s.Path
	var c struct {
		Data struct {
			Size        int
			Fit, Resize string
		}
	}
	if json.Unmarshal(s.Config, &c) != nil || c.Data.Size == 0 {
		return // of a task with its own data; what does not fit is an error of the run
	}
	if !given("size") {
		o.set.Size = c.Data.Size
	}
	if !given("fit") {
		o.set.Fit = c.Data.Fit
	}
	if !given("resize") && o.set.Fit != folder.ADM {
		o.set.Resize = c.Data.Resize
	}
}

// job reads the set, where the task wants one, and makes the job.
func (o *trainData) job(ctx context.Context, a *app, t systems.Task, dev *gpu.Device, s train.Settings) (*train.Job, error) {
	switch {
	case t.MakeOn != nil:
		base, err := o.on.open(t)
		if err != nil {
			return nil, err
		}
		defer base.Close()
		return t.MakeOn(ctx, dev, s, base)
	case t.MakeFrom == nil:
		return t.Make(ctx, dev, s)
	}
	o.set.Stdin = a.env.Stdin
	bar := a.progress("reading "+o.set.Input, "images", -1)
	o.set.Progress = func(done, _ int) { bar.Set(done) }
	set, err := folder.Load(ctx, o.set)
	bar.End()
	if err != nil {
		return nil, err
	}
	a.saySkipped(set.Skipped)
	text := fmt.Sprintf("%s: %d pictures made %d×%d (%s, %s), ", set.Title, set.Len(), set.Size, set.Size, set.Fit, set.Resize)
	if set.Classes == nil {
		text += "no classes"
	} else {
		text += classCounts(set)
	}
	if len(set.Skipped) > 0 {
		text += fmt.Sprintf("; %d that cannot be used were left out", len(set.Skipped))
	}
	if len(set.Aside) > 0 {
		var kinds []string
		for _, k := range slices.Sorted(maps.Keys(set.Aside)) {
			kinds = append(kinds, fmt.Sprintf("%d %s", set.Aside[k], k))
		}
		text += "; no pictures: " + strings.Join(kinds, ", ")
	}
	a.say("%s", text)
	return t.MakeFrom(dev, s, set)
}

// shownClasses is how many classes are listed.
const shownClasses = 12

// classCounts is the classes with their numbers of pictures; those without one are always said.
func classCounts(set *folder.Set) string {
	var parts, empty []string
	for i, n := range set.Counts() {
		switch name := set.Classes[i]; {
		case n == 0:
			empty = append(empty, name)
		case len(parts) < shownClasses:
			parts = append(parts, fmt.Sprintf("%s %d", name, n))
		}
	}
	text := fmt.Sprintf("%d classes: %s", len(set.Classes), strings.Join(parts, ", "))
	if more := len(set.Classes) - len(empty) - len(parts); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	if len(empty) > 0 {
		text += fmt.Sprintf("; without a picture: %s", strings.Join(empty[:min(len(empty), shownClasses)], ", "))
		if len(empty) > shownClasses {
			text += fmt.Sprintf(" and %d more", len(empty)-shownClasses)
		}
	}
	return text
}
