// Package assets finds the files that ship beside the program: trained
// networks, and whatever else is too large to be built in.
//
// The index, index.json, is built into the program and is the one place that
// says what there is: of each file its SHA-256, the commands that make it anew,
// its data, and what was measured of it. Files lie in this folder of the
// repository and in assets/ of a release. They are looked for in
//
//   - the folder that fidlab --assets names,
//   - the one that FIDLAB_ASSETS names,
//   - assets beside the program, and assets beside the program's folder (of
//     bin/fidlab in a checkout),
//   - assets of the checkout that the working directory lies in.
//
// The one rule to know: what Find returns has the hash of the index. A file of
// another hash is an error, wherever it lies; who means that file names its
// path instead.
//
//	path, err := assets.Find("digits-mlp")
package assets
