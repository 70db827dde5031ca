package imageio

import (
	"archive/tar"
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/klauspost/compress/gzip"

	"github.com/fidlab/fidlab/internal/cpu"
)

// tarSource reads a tar or tar.gz front to back, in the order it was written.
// A file is read twice, the first time to check it; a stream once, and then a
// bad member shows when it is loaded.
type tarSource struct {
	title   string
	name    string
	path    string // "" for a stream
	stream  io.Reader
	used    bool
	gz      bool
	length  int
	skip    map[int]bool // members that the check found bad
	classes []string
	number  map[string]int // of each class
	found   Found
	opt     Options
}

func openTar(path string, gz bool, o Options) (Source, error) {
	s := &tarSource{title: path + " (tar)", name: path, path: path, gz: gz, opt: o, skip: map[int]bool{}}
	var names []string
	images := 0
	err := s.scan(o.ctx, &s.found, func(i int, name string, b []byte, reason error) error {
		format := ""
		if reason == nil {
			var misnamed bool
			if format, misnamed, reason = checkMember(name, b, &o); misnamed && reason == nil {
				s.found.Misnamed++
			}
		}
		switch {
		case reason != nil:
			images++
			s.skip[i] = true
			s.found.Bad = append(s.found.Bad, Bad{Path: name, Reason: reason.Error()})
		case format == "":
			s.found.other(kindOf(name))
		default:
			images++
			s.length++
			if o.Labels {
				names = append(names, name)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	_, s.classes = labelMembers(names, o.Labels)
	s.found.Images = s.length
	if err := verdictOn(s.title, &s.found, images, o.SkipBad); err != nil {
		return nil, err
	}
	return s, nil
}

// openStdin reads a tar or tar.gz from standard input. Nothing is read before
// Each, which can be cancelled: a pipe may stay silent for ever.
func openStdin(o Options) (Source, error) {
	in := o.Stdin
	if in == nil {
		in = os.Stdin
	}
	return &tarSource{title: "standard input (tar)", name: "-", stream: in, length: -1, opt: o, found: Found{Images: -1}}, nil
}

// openStream tells tar and tar.gz apart.
func (s *tarSource) openStream(ctx context.Context) (io.Reader, error) {
	r := bufio.NewReaderSize(interruptible(ctx, s.stream), 1<<16)
	head, err := r.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, inputf("-: standard input: %w", err)
	}
	if len(head) == 0 {
		return nil, &inputError{msg: "imageio: -: standard input is empty; want a tar or tar.gz of images", empty: true}
	}
	kind := archiveKind(head)
	if kind != "tar" && kind != "gzip" {
		return nil, inputf("-: standard input starts with % x; want a tar or tar.gz of images", head[:min(len(head), 8)])
	}
	s.gz = kind == "gzip"
	return r, nil
}

// scan calls f for every regular, visible member with its bytes, which are
// f's until it returns, or with the reason why they can't be had. What it
// passes over is counted in found.
func (s *tarSource) scan(ctx context.Context, found *Found, f func(i int, name string, b []byte, bad error) error) error {
	var raw io.Reader
	if s.path == "" {
		reading, stop := context.WithCancel(ctx)
		defer stop()
		var err error
		if raw, err = s.openStream(reading); err != nil {
			return cmp.Or(ctx.Err(), err)
		}
	} else {
		file, err := os.Open(s.path)
		if err != nil {
			return openError(s.path, err)
		}
		defer file.Close()
		raw = bufio.NewReaderSize(untilDone{ctx, file}, 1<<18)
		if !s.gz {
			raw = file // the tar reader seeks over what it skips
		}
	}
	if s.gz {
		z, err := gzip.NewReader(raw)
		if err != nil {
			return cmp.Or(ctx.Err(), inputf("%s: not a gzip stream, or cut: %w", s.name, err))
		}
		defer z.Close()
		raw = z
	}
	end := &endMark{r: raw}
	tr := tar.NewReader(end.reader())
	last := "the start"
	var b []byte
	for i := 0; ; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			if end.zeros < 512 {
				return cmp.Or(ctx.Err(), inputf("%s: cut after %s: it has no end mark (a block of zeros); copy or make it again", s.name, last))
			}
			return nil
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return cmp.Or(ctx.Err(), inputf("%s: cut or damaged after %s: %w; copy or make it again", s.name, last, err))
		}
		if err := memberPath(s.name, h.Name); err != nil {
			return err
		}
		last = h.Name
		switch {
		case h.Typeflag == tar.TypeDir || h.Typeflag == tar.TypeXGlobalHeader:
			continue
		case hiddenMember(h.Name):
			found.Hidden++
			continue
		case h.Typeflag != tar.TypeReg:
			found.other("link or special file")
			continue
		case h.Size > s.opt.maxFileBytes() && promised(h.Name) == "":
			found.other(kindOf(h.Name))
			continue
		case h.Size > s.opt.maxFileBytes():
			err = fmt.Errorf("%d bytes; the limit is %d", h.Size, s.opt.maxFileBytes())
			if err := f(i, h.Name, nil, err); err != nil {
				return err
			}
			continue
		}
		if b, err = readGrowing(tr, b, h.Size); err != nil {
			return cmp.Or(ctx.Err(), inputf("%s: cut or damaged inside %s: %w; copy or make it again", s.name, h.Name, err))
		}
		if err := f(i, h.Name, b, nil); err != nil {
			return err
		}
	}
}

func (s *tarSource) Describe() string  { return s.title }
func (s *tarSource) Len() int          { return s.length }
func (s *tarSource) Found() Found      { return s.found }
func (s *tarSource) Classes() []string { return s.classes }

func (s *tarSource) Each(ctx context.Context, yield func(Item) error) error {
	if s.used && s.path == "" {
		panic("imageio: Each: standard input can be read only once")
	}
	s.used = true
	images := 0
	found := &s.found
	if s.path != "" {
		found = new(Found) // counted in the check
	}
	err := s.scan(ctx, found, func(i int, name string, b []byte, bad error) error {
		if s.skip[i] {
			return nil
		}
		var format string
		if bad == nil {
			format, _, bad = checkMember(name, b, &s.opt)
		}
		if bad == nil && format == "" {
			found.other(kindOf(name))
			return nil
		}
		images++
		data := slices.Clone(b)
		load := func(w *cpu.Worker) (*Image, error) {
			if bad != nil {
				return nil, bad
			}
			m, err := DecodeOn(w, data, s.opt.Decode)
			data = nil
			return m, err
		}
		return yield(Item{Name: name, Label: s.label(name), LoadOn: load, Load: func() (*Image, error) { return load(nil) }})
	})
	if err == nil && images == 0 {
		return emptyError(s.title, &s.found)
	}
	return err
}

// label is the class of a member. A stream numbers its classes as they come.
func (s *tarSource) label(name string) int {
	c := classOfMember(name)
	if !s.opt.Labels || c == "" {
		return -1
	}
	if s.number == nil {
		s.number = map[string]int{}
		for i, known := range s.classes {
			s.number[known] = i
		}
	}
	i, ok := s.number[c]
	if !ok {
		i = len(s.classes)
		s.number[c], s.classes = i, append(s.classes, c)
	}
	return i
}
