package shard

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/io/filesystem"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/io/filesystem/local"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/io/filesystem/memfs"
)

func TestExpand(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	for _, n := range []string{"b1.tar", "a0.tar", "a1.tar", "x-08.tar", "x-09.tar", "x-10.tar", "odd[1].tar"} {
		if err := os.WriteFile(filepath.Join(dir, n), []byte("x"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	list := filepath.Join(dir, "list.txt")
	if err := os.WriteFile(list, []byte("# the shards\n"+dir+"/b1.tar\n\n"+dir+"/a?.tar\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	fs, err := filesystem.New(ctx, "memfs://store/s-0.tar")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"memfs://store/s-1.tar", "memfs://store/s-0.tar"} {
		if err := filesystem.Write(ctx, fs, n, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for arg, want := range map[string][]string{
		dir + "/b1.tar":                              {"b1.tar"},
		dir + "/a*.tar":                              {"a0.tar", "a1.tar"},
		dir + "/b1.tar, " + dir + "/a*.tar":          {"b1.tar", "a0.tar", "a1.tar"},
		dir + "/x-{08..10}.tar":                      {"x-08.tar", "x-09.tar", "x-10.tar"},
		dir + "/a{0..1}.tar":                         {"a0.tar", "a1.tar"},
		"@" + list:                                   {"b1.tar", "a0.tar", "a1.tar"},
		"memfs://store/s-*.tar":                      {"s-0.tar", "s-1.tar"},
		"memfs://store/s-1.tar," + dir + "/./b1.tar": {"s-1.tar", "b1.tar"},
	} {
		got, err := Expand(ctx, arg)
		if err != nil {
			t.Errorf("%s: %v", arg, err)
		}
		for i := range got {
			got[i] = got[i][strings.LastIndexByte(got[i], '/')+1:]
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", arg, got, want)
		}
	}
	for arg, want := range map[string]string{
		"":                                 "names no shard",
		" , ":                              "names no shard",
		dir + "/no*.tar":                   "nothing matches",
		dir + "/none.tar":                  "no such file",
		dir + "/x-{10..08}.tar":            "two numbers that rise",
		dir + "/x-{8,9}.tar":               "two numbers that rise",
		dir + "/x-{0..9999999}.tar":        "two numbers that rise",
		"@" + dir + "/none.txt":            "the list of shards",
		"ftp://host/x.tar":                 "not registered",
		dir + "/a*.tar," + dir + "/a0.tar": "listed twice",
	} {
		_, err := Expand(ctx, arg)
		var input *InputError
		if !errors.As(err, &input) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want an InputError with %q", arg, err, want)
		}
	}
}
