package extract

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/fidlab/fidlab/tensor"
)

// source identifies a published weights file: the torch hub's rule is that a
// name ends in the first eight digits of the file's SHA-256.
type source struct {
	stem, prefix string
	aliases      []string // other names that the same file is published under
}

var inceptionSource = source{
	stem: "pt_inception-2015-12-05-6726825d", prefix: "6726825d",
	aliases: []string{"weights-inception-2015-12-05-6726825d"},
}

// InceptionFile is the published name of the Inception weights; its SHA-256
// begins with InceptionHash.
const (
	InceptionFile = "pt_inception-2015-12-05-6726825d.pth"
	InceptionHash = "6726825d"
)

// ErrNoWeights is what FindInception's error wraps when there is no weights file.
var ErrNoWeights = errors.New("no weights file")

func (o Options) getenv(name string) string {
	if o.Getenv != nil {
		return o.Getenv(name)
	}
	return os.Getenv(name)
}

// CacheDir is the folder of things that can be computed again: the one that
// FIDLAB_CACHE names, else fidlab's part of the user's cache folder.
func CacheDir(getenv func(string) string) (string, error) {
	if dir := getenv("FIDLAB_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cache: %w; name a folder in FIDLAB_CACHE", err)
	}
	return filepath.Join(dir, "fidlab"), nil
}

// CacheWeights is the folder that ImportWeights fills: "weights" in CacheDir.
func CacheWeights(o Options) (string, error) {
	dir, err := CacheDir(o.getenv)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "weights"), nil
}

// folders lists where weights are searched, in order.
func (o Options) folders() []string {
	var dirs []string
	if d := o.getenv("FIDLAB_WEIGHTS"); d != "" {
		dirs = append(dirs, d)
	}
	if d, err := CacheWeights(o); err == nil {
		dirs = append(dirs, d)
	}
	switch home, err := os.UserHomeDir(); {
	case o.getenv("TORCH_HOME") != "":
		dirs = append(dirs, filepath.Join(o.getenv("TORCH_HOME"), "hub", "checkpoints"))
	case o.getenv("XDG_CACHE_HOME") != "":
		dirs = append(dirs, filepath.Join(o.getenv("XDG_CACHE_HOME"), "torch", "hub", "checkpoints"))
	case err == nil:
		dirs = append(dirs, filepath.Join(home, ".cache", "torch", "hub", "checkpoints"))
	}
	return dirs
}

// candidates lists the files that would be taken, the quickest to load first in each folder.
func (s source) candidates(o Options) []string {
	var paths []string
	for _, dir := range o.folders() {
		for _, stem := range append([]string{s.stem}, s.aliases...) {
			for _, ext := range []string{".safetensors", ".pth"} {
				paths = append(paths, filepath.Join(dir, stem+ext))
			}
		}
	}
	return paths
}

// FindInception returns the path of the Inception weights: o.Weights when it
// is given; else the published file, or ImportWeights' copy of it, in the
// folder that FIDLAB_WEIGHTS names, in the cache or in the torch hub's cache.
// The error says what to fetch and where to put it.
func FindInception(o Options) (string, error) { return inceptionSource.find(o) }

func (s source) find(o Options) (string, error) {
	if o.Weights != "" {
		if st, err := os.Stat(o.Weights); err != nil {
			return "", err
		} else if st.IsDir() {
			return "", fmt.Errorf("%s is a folder; want a weights file, .pth or .safetensors", o.Weights)
		}
		return o.Weights, nil
	}
	for _, p := range s.candidates(o) {
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w: %s.pth (its SHA-256 begins with %s; release fid_weights of mseitzer/pytorch-fid) is not in %s; "+
		"get it and run: fidlab weights import FILE, or put it into one of these folders, or name it with --weights; "+
		"--features random tries things out without it", ErrNoWeights, s.stem, s.prefix, strings.Join(o.folders(), ", "))
}

// Metadata keys of the files that ImportWeights writes.
const (
	metaSource = "source"        // name of the file it was made of
	metaSHA    = "source_sha256" // of that file
	metaData   = "data_sha256"   // of the tensors' float32 values, in the order of the network
)

// load reads and checks a weights file. sha identifies the weights: the
// SHA-256 of the .pth that they came in, or of the file itself when it is
// another safetensors file.
func (s source) load(path string, force bool) (weights map[string]*tensor.Array, sha string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	first := make([]byte, 9)
	if _, err := io.ReadFull(f, first); err != nil {
		return nil, "", fmt.Errorf("%s: %d bytes are too few for weights: %w", path, len(first), err)
	}
	if first[8] == '{' && string(first[:4]) != "PK\x03\x04" {
		weights, sha, err = loadSafetensors(path)
	} else {
		weights, _, err = tensor.ReadTorch(path)
		if err == nil {
			sha, err = tensor.FileSHA256(path)
		}
	}
	if err != nil {
		return nil, "", err
	}
	if err := checkWeights(weights); err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	if !strings.HasPrefix(sha, s.prefix) && !force {
		return nil, "", fmt.Errorf("%s: the weights' SHA-256 is %s, that of the published ones begins with %s: features would not be comparable; "+
			"get the published file, or force it", path, sha, s.prefix)
	}
	return weights, sha, nil
}

func loadSafetensors(path string) (weights map[string]*tensor.Array, sha string, err error) {
	f, err := tensor.OpenSafetensors(path)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	weights = map[string]*tensor.Array{}
	for _, p := range inceptionParams() {
		if f.Has(p.name) { // checkWeights names what is missing
			if weights[p.name], err = f.Read(p.name); err != nil {
				return nil, "", err
			}
		}
	}
	if want := f.Meta[metaData]; want != "" && checkWeights(weights) == nil {
		if got := hashWeights(weights); got != want {
			return nil, "", fmt.Errorf("%s: the tensors' SHA-256 is %s, it was %s when the file was written: it is damaged; import it again", path, got, want)
		}
		return weights, f.Meta[metaSHA], nil
	}
	sha, err = tensor.FileSHA256(path)
	return weights, sha, err
}

// hashWeights hashes the values in the order of the network.
func hashWeights(weights map[string]*tensor.Array) string {
	h := sha256.New()
	for _, p := range inceptionParams() {
		h.Write(weights[p.name].Data)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// ImportWeights checks the weights file at path (hash, tensors, shapes) and
// writes a copy that loads quickly and remembers where it came from to folder
// dir ("" is CacheWeights), which it makes. It returns the copy's path. A file
// that is not the published one is taken only by force, and gets a name that
// FindInception does not look for: it must then be named by Options.Weights.
func ImportWeights(path, dir string, o Options) (string, error) {
	return inceptionSource.importFile(path, dir, o)
}

func (s source) importFile(path, dir string, o Options) (string, error) {
	fail := func(err error) (string, error) { return "", fmt.Errorf("extract: weights: %w", err) }
	weights, sha, err := s.load(path, o.Force)
	if err != nil {
		return fail(err)
	}
	if dir == "" {
		if dir, err = CacheWeights(o); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fail(err)
	}
	stem := s.stem
	if !strings.HasPrefix(sha, s.prefix) {
		stem = "inception-" + sha[:8]
	}
	var entries []tensor.SafetensorsEntry
	for _, p := range inceptionParams() {
		a := weights[p.name]
		if a.DType != tensor.F32 {
			a = tensor.FromF32(a.F32(), a.Shape...)
			weights[p.name] = a
		}
		entries = append(entries, tensor.SafetensorsEntry{Name: p.name, Array: a})
	}
	meta := map[string]string{metaSource: filepath.Base(path), metaSHA: sha, metaData: hashWeights(weights)}
	dest := filepath.Join(dir, stem+".safetensors")
	if err := tensor.WriteSafetensors(dest, entries, meta, tensor.Overwrite); err != nil {
		return fail(err)
	}
	return dest, nil
}

// WeightsFile is a place where weights are searched.
type WeightsFile struct {
	Path   string
	Found  bool
	SHA256 string // of the weights, where the file was found and could be read
	Err    error  // why the file can't be used
}

// WeightsList looks at every place where FindInception does, in its order, and
// verifies what is there.
func WeightsList(o Options) []WeightsFile {
	paths := inceptionSource.candidates(o)
	if o.Weights != "" {
		paths = append([]string{o.Weights}, paths...)
	}
	var all []WeightsFile
	for _, p := range paths {
		w := WeightsFile{Path: p}
		if _, err := os.Stat(p); !errors.Is(err, fs.ErrNotExist) {
			w.Found = true
			w.SHA256, w.Err = VerifyWeights(p, o)
		}
		all = append(all, w)
	}
	return all
}

// VerifyWeights reads the weights file at path and checks its hash, its
// tensors and their shapes. It returns the SHA-256 that identifies the weights.
func VerifyWeights(path string, o Options) (sha string, err error) {
	_, sha, err = inceptionSource.load(path, o.Force)
	if err != nil {
		return "", fmt.Errorf("extract: weights: %w", err)
	}
	return sha, nil
}
