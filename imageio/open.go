package imageio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/fidlab/fidlab/internal/cpu"
)

// Options change how Open reads an input. The zero value is the default.
type Options struct {
	Decode  DecodeOptions
	SkipBad bool      // leave bad files out and report them (Found) instead of refusing the input
	Labels  bool      // the first-level folder, or labels of an array, become classes
	Stdin   io.Reader // what "-" reads; nil is os.Stdin
	// MaxFileBytes bounds one picture's file or archive member; 0 is 1 GiB.
	MaxFileBytes int64

	ctx context.Context // of OpenContext
}

const defaultMaxFileBytes = 1 << 30

func (o *Options) maxFileBytes() int64 {
	if o.MaxFileBytes > 0 {
		return o.MaxFileBytes
	}
	return defaultMaxFileBytes
}

var (
	schemesMu sync.RWMutex
	schemes   = map[string]func(arg string) (Source, error){}
)

// RegisterScheme makes Open hand inputs of the form "name:arg" to open. It
// panics when the name is taken or could be a drive letter.
func RegisterScheme(name string, open func(arg string) (Source, error)) {
	schemesMu.Lock()
	defer schemesMu.Unlock()
	if len(name) < 2 || schemes[name] != nil {
		panic(fmt.Sprintf("imageio: RegisterScheme: %q is taken or shorter than two letters", name))
	}
	schemes[name] = open
}

// Schemes lists the registered names, sorted.
func Schemes() []string {
	schemesMu.RLock()
	defer schemesMu.RUnlock()
	var names []string
	for n := range schemes {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Open opens an input: a folder (read recursively, in the order of the paths),
// an image list (.txt), an archive (zip, tar, tar.gz, or "-" for a tar or
// tar.gz on standard input), an array of images (.npy, .npz), one picture, or
// "scheme:argument" as registered. The kind of a file is told by content.
//
// The skeleton of every picture of a folder, list or archive file is checked
// here; bad ones are all listed in a *BadFilesError, unless Options.SkipBad is
// set. Errors about the input are ErrInput.
func Open(input string, o Options) (Source, error) {
	return OpenContext(context.Background(), input, o)
}

// OpenContext is Open that ends with ctx's error when ctx ends: to check a
// large folder takes a while.
func OpenContext(ctx context.Context, input string, o Options) (Source, error) {
	o.ctx = ctx
	if input == "-" {
		return openStdin(o)
	}
	if name, arg, ok := strings.Cut(input, ":"); ok {
		schemesMu.RLock()
		open := schemes[name]
		schemesMu.RUnlock()
		if open != nil {
			src, err := open(arg)
			if err != nil {
				return nil, &inputError{msg: err.Error(), cause: err}
			}
			return src, nil
		}
	}
	st, err := os.Stat(input)
	if err != nil {
		return nil, openError(input, err)
	}
	switch {
	case st.IsDir():
		return openFolder(input, o)
	case !st.Mode().IsRegular():
		return nil, inputf("%s: is a %v; want a folder, an archive or a file of images", input, st.Mode().Type())
	}
	return openFile(input, st.Size(), o)
}

func openError(input string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint := "give a folder, an archive, a list, or - for standard input"
		if name, _, ok := strings.Cut(input, ":"); ok && len(name) > 1 && !strings.ContainsAny(name, `/\.`) {
			hint = fmt.Sprintf("there is no data set %q; there are %s", name, strings.Join(Schemes(), ", "))
		}
		return inputf("%s: no such file or folder; %s (%w)", input, hint, fs.ErrNotExist)
	case errors.Is(err, fs.ErrPermission):
		return inputf("%s: permission denied; make it readable (%w)", input, fs.ErrPermission)
	}
	return inputf("%s: %w", input, err)
}

// openFile tells the kinds of files apart by their first bytes.
func openFile(path string, size int64, o Options) (Source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, openError(path, err)
	}
	head := make([]byte, 512)
	n, err := io.ReadFull(f, head)
	f.Close()
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, openError(path, err)
	}
	head = head[:n]
	ext := strings.ToLower(filepath.Ext(path))
	switch kind := archiveKind(head); {
	case size == 0:
		return nil, &inputError{msg: fmt.Sprintf("imageio: %s: empty file (0 bytes); want a folder, an archive, a list or an array of images", path), empty: true}
	case kind == "zip" && ext == ".npz", kind == "npy":
		return openArray(path, kind == "npy", o)
	case kind == "zip":
		return openZip(path, o)
	case kind == "tar", kind == "gzip":
		return openTar(path, kind == "gzip", o)
	case sniff(head) != "" || promised(path) != "":
		return newFileSource(path+" (image)", []file{{name: path, path: path, label: -1}}, Found{}, nil, true, o)
	case ext == ".txt" || ext == ".list" || ext == ".lst":
		return openList(path, o)
	case ext == ".zip" || ext == ".npz" || ext == ".npy" || ext == ".tar" || ext == ".gz" || ext == ".tgz":
		return nil, inputf("%s: named %s, but starts with % x; it is cut or of another kind", path, ext, head[:min(n, 8)])
	}
	return nil, inputf("%s: not a folder, zip, tar, tar.gz, .npy, .npz, image or .txt list (starts with % x)", path, head[:min(n, 8)])
}

// archiveKind tells containers by their first 512 bytes.
func archiveKind(b []byte) string {
	switch {
	case len(b) >= 4 && b[0] == 'P' && b[1] == 'K' && (b[2] == 3 && b[3] == 4 || b[2] == 5 && b[3] == 6):
		return "zip"
	case len(b) >= 6 && string(b[:6]) == "\x93NUMPY":
		return "npy"
	case len(b) >= 2 && b[0] == 0x1f && b[1] == 0x8b:
		return "gzip"
	case len(b) >= 262 && string(b[257:262]) == "ustar":
		return "tar"
	}
	return ""
}

// parallel runs f(i) for i < n on as many goroutines as there are workers,
// until ctx ends.
func parallel(ctx context.Context, n int, f func(i int)) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	next := 0
	for range min(cpu.Workers(), n) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= n || ctx.Err() != nil {
					return
				}
				f(i)
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}
