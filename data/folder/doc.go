// Package folder reads training sets that users bring: pictures in a folder, an image list, a zip, a tar or any other
// input of package imageio, with a class each, made one size.
//
//	set, err := folder.Load(ctx, folder.Options{Input: "pets/", Size: 32})
//
// The classes come from the first-level folders, from the names' beginnings (cat_001.png), or from a file: the
// dataset.json of EDM and StyleGAN, a .csv, .jsonl or .parquet; captions from texts beside the pictures, a .jsonl or .parquet. Items are in the order of their names, whatever the container's
// order, and SHA256 says which set it is.
//
// The one rule to know: nothing is left out silently. A picture that cannot be read, one without a class where others
// have one, one without a caption where they are asked for, and a name in a file of labels or captions that has no picture are items that cannot be used; Load lists them in a
// *SkipError unless there are at most Options.Skip of them, and then they are in Set.Skipped.
package folder
