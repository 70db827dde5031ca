package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/fid/extract"
)

type cacheEntry struct {
	Name     string    `json:"name"`
	Bytes    int64     `json:"bytes"`
	Modified time.Time `json:"modified"`
}

type cacheReport struct {
	Dir     string       `json:"dir"`
	Bytes   int64        `json:"bytes"`
	Files   []cacheEntry `json:"files"`
	Removed bool         `json:"removed"`
}

func newCache(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Show or clean the folder of things that can be computed again",
		Long: `Show or clean the cache: fitted mixtures and the like, which the next command
that needs them computes again. It is the folder that FIDLAB_CACHE names, else
fidlab in the user's cache folder. Imported weights are there too; cleaning
leaves them, unless they are named.`,
		Example: "  fidlab cache show\n  fidlab cache clean",
		Args:    cobra.ArbitraryArgs,
		RunE:    needsVerb,
	}
	cmd.AddCommand(&cobra.Command{
		Use:     "show",
		Short:   "List the cached files with their sizes",
		Example: "  fidlab cache show\n  fidlab cache show --json",
		Args:    nargs("no arguments", 0, 0),
		RunE:    func(*cobra.Command, []string) error { return runCacheShow(a) },
	}, &cobra.Command{
		Use:     "clean [NAME...]",
		Short:   "Remove all cached files but weights, or those named",
		Example: "  fidlab cache clean\n  fidlab cache clean mnist-gmm.npz",
		Args:    cobra.ArbitraryArgs,
		RunE:    func(_ *cobra.Command, args []string) error { return runCacheClean(a, args) },
	})
	return cmd
}

// needsVerb is the run of a command that only has commands below it.
func needsVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("want one of: %s", strings.Join(commandNames(cmd), " "))
	}
	return unknown(cmd.Name()+" command", args[0], commandNames(cmd))
}

// cached lists the files of the cache; a folder that is not there is empty.
func (a *app) cached() (cacheReport, error) {
	dir, err := extract.CacheDir(a.env.Getenv)
	if err != nil {
		return cacheReport{}, err
	}
	r := cacheReport{Dir: dir, Files: []cacheEntry{}}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == cacheTag {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		r.Files = append(r.Files, cacheEntry{Name: name, Bytes: info.Size(), Modified: info.ModTime().UTC()})
		r.Bytes += info.Size()
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return r, err
}

func runCacheShow(a *app) error {
	r, err := a.cached()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(r)
	}
	tw := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	for _, f := range r.Files {
		fmt.Fprintf(tw, "%s\t%s\t%s\n", f.Name, bytesText(f.Bytes), f.Modified.Format(time.DateTime))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	a.say("%s: %d files, %s", r.Dir, len(r.Files), bytesText(r.Bytes))
	return nil
}

func runCacheClean(a *app, names []string) error {
	all, err := a.cached()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(all.Dir, cacheTag)); err != nil && len(all.Files) > 0 {
		return inputf("cache: %s has no %s, so fidlab did not make it; nothing was removed, check FIDLAB_CACHE", all.Dir, cacheTag)
	}
	gone := cacheReport{Dir: all.Dir, Files: []cacheEntry{}, Removed: true}
	for _, name := range names {
		if !slices.ContainsFunc(all.Files, func(f cacheEntry) bool { return f.Name == name }) {
			return inputf("cache: no file %q in %s; fidlab cache show lists them", name, all.Dir)
		}
	}
	for _, f := range all.Files {
		if len(names) > 0 && !slices.Contains(names, f.Name) {
			continue
		}
		if len(names) == 0 && strings.HasPrefix(filepath.ToSlash(f.Name), "weights/") {
			a.say("kept %s: it cannot be computed again; name it to remove it", f.Name)
			continue
		}
		if err := os.Remove(filepath.Join(all.Dir, f.Name)); err != nil {
			return fmt.Errorf("cache: %w", err)
		}
		gone.Files = append(gone.Files, f)
		gone.Bytes += f.Bytes
	}
	if a.json {
		return a.printJSON(gone)
	}
	for _, f := range gone.Files {
		a.printf("%s\n", f.Name)
	}
	a.say("%s: %d files removed, %s freed", gone.Dir, len(gone.Files), bytesText(gone.Bytes))
	return nil
}

// bytesText is n with a binary unit, e.g. "1.4 MiB".
func bytesText(n int64) string {
	v, unit := float64(n), "B"
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if v < 1024 {
			break
		}
		v, unit = v/1024, u
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}
