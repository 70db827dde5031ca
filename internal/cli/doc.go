// Package cli is the command line of fidlab: one file per command, each an
// options struct, a newX that declares its flags and a runX that does the work.
//
// It computes nothing: it resolves inputs, calls the packages below, and writes
// the result. The one rule to know: the result alone goes to standard output,
// everything else to standard error, and every error becomes an exit code in
// one place (exitCode). Output files are written under a temporary name and
// renamed, so an interrupted or failed command leaves nothing under a final name.
//
//	os.Exit(cli.Main(os.Args[1:], cli.System()))
package cli
