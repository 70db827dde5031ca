package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fidlab/fidlab/fid/extract"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/tensor"
)

type resizeOptions struct {
	inputs []string
	preset string
	size   string
	bad    bool // leave bad images out
	out    target
}

func newResize(a *app) *cobra.Command {
	var o resizeOptions
	cmd := &cobra.Command{
		Use:   "resize IMAGE... -o F.npy",
		Short: "Resize images exactly as a scoring tool does, and write them as an array",
		Long: `Resize images exactly as a scoring tool does, to the last rounding, and write
them as float32 [n, height, width, 3] on the scale 0 to 255, before any
normalisation. IMAGE may be any input of images (a file, a folder, an archive).

Presets: ` + presetHelp() + `
The single ways of resizing are presets too: ` + strings.Join(kindNames(), " ") + `
(the pil ones end in -pillow13 for the pass order of Pillow 13).`,
		Example: `  fidlab resize photo.jpg --preset clean -o photo.npy
  fidlab resize out/ --preset pil-u8-lanczos --size 64x48 -o small.npy`,
		Args: nargs("one or more images", 1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.inputs = args
			return runResize(cmd.Context(), a, &o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.preset, "preset", "pytorch-fid", "resize as `NAME` does: a tool or a way of resizing")
	f.StringVar(&o.size, "size", "299", "make them `N` pixels high and wide, or WIDTHxHEIGHT")
	f.BoolVar(&o.bad, "skip-bad", false, "leave out images that cannot be read, and list them")
	o.out.flags(f, "the resized images (.npy)")
	completes(cmd, "preset", append(presetNames(), kindNames()...)...)
	return cmd
}

func presetHelp() string {
	var s []string
	for _, p := range extract.Presets {
		s = append(s, fmt.Sprintf("%s (%v)", p.Name, p.Resize))
	}
	return strings.Join(s, ", ") + "."
}

func kindNames() []string {
	var s []string
	for _, k := range imageio.ResizeKinds() {
		if name := k.String(); !strings.HasSuffix(name, "-pillow13") {
			s = append(s, name)
		}
	}
	return s
}

func resizeKind(name string) (imageio.ResizeKind, error) {
	var known []string
	for _, p := range extract.Presets {
		if p.Name == name {
			return p.Resize, nil
		}
		known = append(known, p.Name)
	}
	for _, k := range imageio.ResizeKinds() {
		if k.String() == name {
			return k, nil
		}
		known = append(known, k.String())
	}
	return imageio.ResizeKind{}, unknown("preset", name, known)
}

// parseSize reads N or WIDTHxHEIGHT.
func parseSize(s string) (w, h int, err error) {
	var rest string
	if n, _ := fmt.Sscanf(s+"$", "%dx%d%s", &w, &h, &rest); n != 3 || rest != "$" {
		rest = ""
		if n, _ := fmt.Sscanf(s+"$", "%d%s", &w, &rest); n != 2 || rest != "$" {
			return 0, 0, usagef("--size %q: want N or WIDTHxHEIGHT", s)
		}
		h = w
	}
	if w < 1 || h < 1 || w > 1<<14 || h > 1<<14 {
		return 0, 0, usagef("--size %q: want 1 to %d pixels", s, 1<<14)
	}
	return w, h, nil
}

func runResize(ctx context.Context, a *app, o *resizeOptions) error {
	kind, err := resizeKind(o.preset)
	if err != nil {
		return err
	}
	w, h, err := parseSize(o.size)
	if err != nil {
		return err
	}
	if err := o.out.check(); err != nil {
		return err
	}
	if _, err := a.useDevice(); err != nil {
		return err
	}
	r := imageio.NewResizer(kind, w, h)
	var pixels []float32
	n := 0
	skipped := []imageio.Bad{}
	plane := make([]float32, 3*w*h)
	for _, arg := range o.inputs {
		src, err := imageio.OpenContext(ctx, arg, imageio.Options{Stdin: a.env.Stdin, SkipBad: o.bad})
		if err != nil {
			return err
		}
		if f, ok := src.(imageio.Finder); ok {
			skipped = append(skipped, f.Found().Bad...)
		}
		p := a.progress("resizing "+arg, "images", src.Len())
		bad, total, err := eachImage(ctx, src, func(img *imageio.Image) {
			r.Into(plane, img, 1, 0, nil)
			at := len(pixels)
			pixels = append(pixels, plane...)
			interleave(pixels[at:], plane)
			n++
			p.Add(1)
		})
		p.End()
		if err == nil && bad != nil && !o.bad {
			err = &imageio.BadFilesError{Input: src.Describe(), Bad: bad, Total: total}
		}
		if err != nil {
			return err
		}
		skipped = append(skipped, bad...)
	}
	a.saySkipped(skipped)
	if n == 0 {
		return inputf("none of the images could be read; nothing to write")
	}
	if err := tensor.WriteNPYFile(o.out.path, tensor.FromF32(pixels, n, h, w, 3), o.out.options()...); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"file": o.out.path, "n": n, "height": h, "width": w, "preset": o.preset, "resize": kind.String(), "skipped": skipped, "version": version})
	}
	a.printf("%s\n", o.out.path)
	a.say("%s: %d images of %dx%d, resized by %v", o.out.path, n, w, h, kind)
	return nil
}

// interleave writes planes [3, n] as pixels [n, 3].
func interleave(dst, planes []float32) {
	n := len(planes) / 3
	for c := range 3 {
		for i, v := range planes[c*n:][:n] {
			dst[3*i+c] = v
		}
	}
}

// saySkipped lists on standard error what --skip-bad left out.
func (a *app) saySkipped(bad []imageio.Bad) {
	for _, b := range bad {
		a.say("skipped %s: %s", b.Path, b.Reason)
	}
}

// eachImage decodes the pictures of src in order. It reads on to the end past
// those that cannot be decoded, and returns them all.
func eachImage(ctx context.Context, src imageio.Source, use func(*imageio.Image)) (bad []imageio.Bad, total int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	items := make(chan imageio.Item, 4) // a picture is loaded when its delivery has returned
	end := make(chan error, 1)
	go func() {
		defer close(items)
		end <- src.Each(ctx, func(it imageio.Item) error {
			select {
			case items <- it:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	for it := range items {
		total++
		img, err := it.Load()
		if err != nil {
			bad = append(bad, imageio.Bad{Path: it.Name, Reason: err.Error()})
			continue
		}
		use(img)
	}
	return bad, total, <-end
}
