package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/fidlab/fidlab/fid/extract"
)

// cacheTag marks a folder as a cache of ours (and, by its convention, tells
// backup programs to leave it out); cache clean touches no folder without it.
const cacheTag = "CACHEDIR.TAG"

const cacheTagText = "Signature: 8a477f597d28d172789f06886806bc55\n# Made by fidlab; everything here but weights/ can be computed again.\n"

// cacheFile is the path of a file in the cache, whose folder it makes.
func cacheFile(getenv func(string) string, name string) (string, error) {
	dir, err := extract.CacheDir(getenv)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", fmt.Errorf("cache: %w; name a folder that can be written in FIDLAB_CACHE", err)
	}
	tag := filepath.Join(dir, cacheTag)
	if _, err := os.Stat(tag); err != nil {
		if err := os.WriteFile(tag, []byte(cacheTagText), 0o666); err != nil {
			return "", fmt.Errorf("cache: %w; name a folder that can be written in FIDLAB_CACHE", err)
		}
	}
	return filepath.Join(dir, name), nil
}
