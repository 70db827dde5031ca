package imageio

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/fidlab/fidlab/internal/cpu"
)

// memberPath refuses archive members that would lie outside a folder if they
// were extracted. Nothing is extracted here, but such an archive is an attack
// or broken, and its names end up in reports.
func memberPath(archive, name string) error {
	slashed := strings.ReplaceAll(name, `\`, "/")
	drive := len(slashed) > 1 && slashed[1] == ':'
	if path.IsAbs(slashed) || drive || slices.Contains(strings.Split(slashed, "/"), "..") {
		return inputf("%s: member %q leads outside the archive; refused, make it again with relative names", archive, name)
	}
	if strings.ContainsRune(name, 0) {
		return inputf("%s: member %q has a zero byte in its name; refused", archive, name)
	}
	return nil
}

// hiddenMember tells names with an element that begins with a dot, and the
// copies of resource forks that macOS adds to archives.
func hiddenMember(name string) bool {
	for _, e := range strings.Split(name, "/") {
		if strings.HasPrefix(e, ".") && e != "." || e == "__MACOSX" {
			return true
		}
	}
	return false
}

// classOfMember is the first-level folder of a member, "" when it has none.
func classOfMember(name string) string {
	first, _, inside := strings.Cut(strings.TrimPrefix(name, "./"), "/")
	if !inside {
		return ""
	}
	return first
}

// zipSource reads the members of a zip archive in the order of their names, so
// that an archive of a folder gives what the folder gives.
type zipSource struct {
	title   string
	file    *os.File
	members []*zip.File
	labels  []int
	classes []string
	found   Found
	opt     Options
}

func openZip(name string, o Options) (Source, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, openError(name, err)
	}
	s, err := newZipSource(name, f, o)
	if err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func newZipSource(name string, f *os.File, o Options) (*zipSource, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, openError(name, err)
	}
	zr, err := zip.NewReader(f, st.Size())
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return nil, inputf("%s: not a zip archive, or cut (%d bytes): %w; copy or make it again", name, st.Size(), err)
	}
	s := &zipSource{title: name + " (zip)", file: f, opt: o}
	var all []*zip.File
	seen := map[string]bool{}
	for _, m := range zr.File {
		if err := memberPath(name, m.Name); err != nil {
			return nil, err
		}
		switch {
		case strings.HasSuffix(m.Name, "/"):
		case hiddenMember(m.Name):
			s.found.Hidden++
		case !m.Mode().IsRegular():
			s.found.other("link or special file")
		case seen[m.Name]:
			s.found.Duplicates++
		default:
			seen[m.Name] = true
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b *zip.File) int { return strings.Compare(a.Name, b.Name) })
	return s, s.check(all)
}

// check keeps the good pictures of all.
func (s *zipSource) check(all []*zip.File) error {
	type verdict struct {
		format   string
		misnamed bool
		bad      error
	}
	verdicts := make([]verdict, len(all))
	err := parallel(s.opt.ctx, len(all), func(i int) {
		v := &verdicts[i]
		p := fileBytes.Get().(*[]byte)
		defer fileBytes.Put(p)
		if promised(all[i].Name) == "" && all[i].UncompressedSize64 < 4 {
			return
		}
		b, err := readMember(all[i], (*p)[:0], &s.opt)
		*p = b[:cap(b)]
		if err != nil {
			if v.bad = err; promised(all[i].Name) == "" {
				v.bad = nil // not known to be a picture
			}
			return
		}
		v.format, v.misnamed, v.bad = checkMember(all[i].Name, b, &s.opt)
	})
	if err != nil {
		return err
	}
	images := 0
	for i, v := range verdicts {
		switch {
		case v.bad != nil:
			images++
			s.found.Bad = append(s.found.Bad, Bad{Path: all[i].Name, Reason: v.bad.Error()})
		case v.format == "":
			s.found.other(kindOf(all[i].Name))
		default:
			images++
			s.members = append(s.members, all[i])
			if v.misnamed {
				s.found.Misnamed++
			}
		}
	}
	s.found.Images = len(s.members)
	names := make([]string, len(s.members))
	for i, m := range s.members {
		names[i] = m.Name
	}
	s.labels, s.classes = labelMembers(names, s.opt.Labels)
	return verdictOn(s.title, &s.found, images, s.opt.SkipBad)
}

// checkMember is checkFile for bytes in memory.
func checkMember(name string, b []byte, o *Options) (format string, misnamed bool, bad error) {
	format, misnamed, bad = classify(name, b[:min(len(b), sniffLen)], int64(len(b)))
	if bad == nil && format != "" {
		bad = checkStructure(format, bytes.NewReader(b), int64(len(b)), o.Decode.MaxPixels)
	}
	return format, misnamed, bad
}

// readMember reads a member into b's memory; never more than its header says,
// nor than the limit.
func readMember(m *zip.File, b []byte, o *Options) ([]byte, error) {
	if m.UncompressedSize64 > uint64(o.maxFileBytes()) {
		return b, fmt.Errorf("%d bytes when decompressed; the limit is %d", m.UncompressedSize64, o.maxFileBytes())
	}
	if m.Flags&1 != 0 {
		return b, errors.New("encrypted; decrypt the archive first")
	}
	r, err := m.Open()
	if err != nil {
		return b, err
	}
	defer r.Close()
	b, err = readGrowing(r, b, int64(m.UncompressedSize64))
	if err != nil {
		return b, fmt.Errorf("cut or damaged in the archive: %w", err)
	}
	return b, nil
}

// readGrowing reads exactly n bytes, allocating as they come: a header that
// lies about n costs no memory.
func readGrowing(r io.Reader, b []byte, n int64) ([]byte, error) {
	const step = 1 << 20
	b = b[:0]
	for int64(len(b)) < n {
		m := min(n-int64(len(b)), max(step, int64(cap(b)-len(b))))
		old := len(b)
		b = slices.Grow(b, int(m))[:old+int(m)]
		if k, err := io.ReadFull(r, b[old:]); err != nil {
			return b[:old+k], fmt.Errorf("%d of %d bytes: %w", old+k, n, err)
		}
	}
	var one [1]byte // the end of the stream: checksums are verified there
	if k, err := io.ReadFull(r, one[:]); k != 0 || !errors.Is(err, io.EOF) {
		if k != 0 {
			err = errors.New("it goes on")
		}
		return b, fmt.Errorf("after %d bytes: %w", n, err)
	}
	return b, nil
}

func (s *zipSource) Describe() string  { return s.title }
func (s *zipSource) Len() int          { return len(s.members) }
func (s *zipSource) Found() Found      { return s.found }
func (s *zipSource) Classes() []string { return s.classes }
func (s *zipSource) Close() error      { return s.file.Close() }

func (s *zipSource) Each(ctx context.Context, yield func(Item) error) error {
	for i, m := range s.members {
		if err := ctx.Err(); err != nil {
			return err
		}
		load := func(w *cpu.Worker) (*Image, error) {
			p := fileBytes.Get().(*[]byte)
			defer fileBytes.Put(p)
			b, err := readMember(m, *p, &s.opt)
			*p = b[:cap(b)]
			if err != nil {
				return nil, err
			}
			return DecodeOn(w, b, s.opt.Decode)
		}
		item := Item{Name: m.Name, Label: s.labels[i], LoadOn: load, Load: func() (*Image, error) { return load(nil) }}
		if err := yield(item); err != nil {
			return err
		}
	}
	return nil
}

// labelMembers numbers the sorted first-level folders of members.
func labelMembers(names []string, on bool) (labels []int, classes []string) {
	labels = make([]int, len(names))
	for i := range labels {
		labels[i] = -1
	}
	if !on {
		return labels, nil
	}
	for _, n := range names {
		if c := classOfMember(n); c != "" {
			classes = append(classes, c)
		}
	}
	slices.Sort(classes)
	classes = slices.Compact(classes)
	for i, n := range names {
		if j, ok := slices.BinarySearch(classes, classOfMember(n)); ok {
			labels[i] = j
		}
	}
	return labels, classes
}
