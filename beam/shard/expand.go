package shard

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/io/filesystem"
)

// maxShards bounds what a pattern may expand to.
const maxShards = 1 << 20

// Expand lists the shards that an argument names, in their order: patterns with
// commas between them, each a path, a path with *, ? or [] whose matches are
// taken in the order of their names, or one with {000..146} as webdataset has
// it; or @FILE, a file with a pattern on each line. What does not exist, and
// what is named twice, is an InputError.
func Expand(ctx context.Context, arg string) ([]string, error) {
	patterns := strings.Split(arg, ",")
	if file, ok := strings.CutPrefix(arg, "@"); ok {
		lines, err := readLines(ctx, file)
		if err != nil {
			return nil, err
		}
		patterns = lines
	}
	var out []string
	for _, p := range patterns {
		if p = strings.TrimSpace(p); p == "" || strings.HasPrefix(p, "#") {
			continue
		}
		paths, err := braces(p)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			found, err := matches(ctx, path)
			if err != nil {
				return nil, err
			}
			if out = append(out, found...); len(out) > maxShards {
				return nil, inputf("%s: more than %d shards", arg, maxShards)
			}
		}
	}
	if len(out) == 0 {
		return nil, inputf("%q names no shard; give paths, patterns or @FILE with a path on each line", arg)
	}
	seen := make(map[string]bool, len(out))
	for _, path := range out {
		if seen[path] {
			return nil, inputf("%s: %w; its rows would count twice", path, ErrTwice)
		}
		seen[path] = true
	}
	return out, nil
}

func readLines(ctx context.Context, file string) ([]string, error) {
	fs, err := filesystem.New(ctx, file)
	if err != nil {
		return nil, inputf("%s: %w", file, err)
	}
	defer fs.Close()
	b, err := filesystem.Read(ctx, fs, file)
	if err != nil {
		return nil, inputf("the list of shards %s: %w", file, err)
	}
	return strings.Split(string(b), "\n"), nil
}

// braces expands the first {from..to} of a path; numbers keep their leading zeros.
func braces(path string) ([]string, error) {
	before, rest, ok := strings.Cut(path, "{")
	if !ok {
		return []string{path}, nil
	}
	inside, after, ok := strings.Cut(rest, "}")
	lo, hi, dots := strings.Cut(inside, "..")
	from, err1 := strconv.ParseUint(lo, 10, 32)
	to, err2 := strconv.ParseUint(hi, 10, 32)
	if !ok || !dots || err1 != nil || err2 != nil || from > to || to-from >= maxShards {
		return nil, inputf("%s: {%s}: want {FROM..TO}, two numbers that rise, such as {000..146}", path, inside)
	}
	width := 0
	if len(lo) > 1 && lo[0] == '0' || len(lo) == len(hi) {
		width = len(lo)
	}
	var out []string
	for n := from; n <= to; n++ {
		more, err := braces(fmt.Sprintf("%s%0*d%s", before, width, n, after))
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

// matches lists what a path or a pattern stands for.
func matches(ctx context.Context, path string) ([]string, error) {
	fs, err := filesystem.New(ctx, path)
	if err != nil {
		return nil, inputf("%s: %w", path, err)
	}
	defer fs.Close()
	if !strings.ContainsAny(path, "*?[") {
		if !remote(path) {
			path = filepath.Clean(path)
		}
		if _, err := fs.Size(ctx, path); err != nil {
			return nil, inputf("%s: %w; give the path of a shard, or a pattern in quotes", path, err)
		}
		return []string{path}, nil
	}
	found, err := fs.List(ctx, path)
	if err != nil {
		return nil, inputf("%s: %w", path, err)
	}
	if len(found) == 0 {
		return nil, inputf("%s: nothing matches", path)
	}
	slices.Sort(found)
	return found, nil
}

// remote tells whether a path is in a store.
func remote(path string) bool { return strings.Contains(path, "://") }
