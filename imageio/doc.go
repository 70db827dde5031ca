// Package imageio reads and writes pictures: from folders, lists, archives,
// arrays and streams to batches of 8-bit RGB on the workers of internal/cpu,
// resized as the tools that people compare with resize them.
//
// It is no general image library: everything becomes 8-bit RGB, by one rule for
// each kind. The rules are those of Pillow's convert("RGB"), except where the
// table says otherwise, and are tested against it bit for bit:
//
//	gray            the channel is repeated three times; 1, 2 and 4 bits are stretched to 0..255
//	alpha           dropped, not composited: the colour under it shows (also a transparent colour or palette entry)
//	palette         expanded; an index beyond the palette is black
//	16 bits         the high byte. Pillow saturates 16-bit gray at 255, which makes it white; here it is the high byte too
//	PNM             scaled by 255/maxval and rounded to even; gray above 8 bits: scaled to 16 bits, then the high byte
//	CMYK            white·(255−ink)/255 with white = 255−K, rounded; JPEG inks are stored inverted, as Adobe does
//	JPEG            libjpeg-turbo: accurate DCT, interpolated chroma. Without it Go's decoder with the same
//	                interpolation, which is up to 3 levels off (the inverse DCT rounds otherwise); Facts.Decoder tells
//	lossy WebP      libwebp's interpolation of chroma and its conversion
//	EXIF rotation   ignored and counted (DecodeOptions.Orient applies it); the orientation of a TIFF is obeyed
//	ICC, gamma      ignored
//	animations      the first frame; around a smaller frame lies its transparent colour, else colour 0
//
// Not read: CMYK and JPEG-compressed TIFF, 16-bit and run-length BMP, arithmetic
// JPEG, AVIF, HEIC, JPEG XL, JPEG 2000; each is an error that says so.
//
// The one rule to know: a bad picture is never skipped silently. Open checks
// the skeleton of every file of a folder, list or archive and lists all bad
// ones in one error; Batches does so for what only decoding can tell.
//
//	src, err := imageio.Open("out/", imageio.Options{})
//	resize := imageio.NewResizer(imageio.TorchBilinear, 299, 299)
//	sum, err := imageio.Batches(ctx, src, imageio.BatchOptions{}, func(w *cpu.Worker, b *imageio.Batch) error {
//		for i, img := range b.Images {
//			resize.Into(input[i], img, 1/127.5, -1, nil)
//		}
//		…
//	})
package imageio
