package onnx

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// LibraryEnv names the environment variable that says where onnxruntime is: its
// file, or a folder that has it.
const LibraryEnv = "FIDLAB_ONNXRUNTIME"

// Install says how to get the library.
const Install = "pip install onnxruntime (1.24 or later), or name its library or folder in " + LibraryEnv

// wheel is where Python's package onnxruntime keeps the library, below its site-packages.
const wheel = "onnxruntime/capi"

// libraryNames match the library's file on this system, the plain name first.
func libraryNames() []string {
	switch runtime.GOOS {
	case "windows":
		return []string{"onnxruntime.dll"}
	case "darwin":
		return []string{"libonnxruntime.dylib", "libonnxruntime.*.dylib"}
	}
	return []string{"libonnxruntime.so", "libonnxruntime.so.*"}
}

// inFolder is the library in dir or in a wheel below it; of several versions the
// last by name.
func inFolder(dir string) string {
	for _, sub := range []string{"", wheel} {
		for _, name := range libraryNames() {
			found, _ := filepath.Glob(filepath.Join(dir, sub, name))
			if len(found) > 0 {
				return slices.Max(found)
			}
		}
	}
	return ""
}

// FindLibrary is the file of onnxruntime: what LibraryEnv names, else the first
// found beside the program, in the folder .onnx of the checkout that has the
// program in its bin, in the packages of the active virtual environment, of the
// user's and the system's Python, and in the system's library folders.
func FindLibrary(getenv func(string) string) (string, error) {
	if given := getenv(LibraryEnv); given != "" {
		info, err := os.Stat(given)
		if err != nil {
			return "", fmt.Errorf("onnx: %s: %w; wanted the library's file or a folder that has it", LibraryEnv, err)
		}
		if !info.IsDir() {
			return given, nil
		}
		if lib := inFolder(given); lib != "" {
			return lib, nil
		}
		return "", fmt.Errorf("onnx: %s: %s has no %s, nor %s in it", LibraryEnv, given, strings.Join(libraryNames(), " or "), wheel)
	}
	for _, pattern := range searched(getenv) {
		dirs, _ := filepath.Glob(pattern)
		slices.Sort(dirs)
		slices.Reverse(dirs)
		for _, dir := range dirs {
			if lib := inFolder(dir); lib != "" {
				return lib, nil
			}
		}
	}
	return "", fmt.Errorf("onnx: no onnxruntime was found; %s", Install)
}

// searched are the patterns of folders to look in, in order.
func searched(getenv func(string) string) []string {
	var dirs []string
	if exe, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		dirs = append(dirs, filepath.Dir(exe), filepath.Join(filepath.Dir(exe), "..", ".onnx"))
	}
	python := func(prefix string) {
		if prefix != "" {
			dirs = append(dirs, prefix+"/lib/python3*/site-packages", prefix+"/lib/python3*/dist-packages", prefix+"/Lib/site-packages")
		}
	}
	python(getenv("VIRTUAL_ENV"))
	python(getenv("CONDA_PREFIX"))
	if home := getenv("HOME"); home != "" {
		python(home + "/.local")
	}
	python("/usr/local")
	python("/usr")
	return append(dirs, "/usr/local/lib", "/usr/local/lib64", "/usr/lib", "/usr/lib64", "/usr/lib/*-linux-gnu", "/opt/homebrew/lib", "/opt/onnxruntime*/lib")
}
