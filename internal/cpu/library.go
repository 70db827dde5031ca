package cpu

// Library is what the search for one native library found.
type Library struct {
	Name    string // "oneDNN"
	Purpose string // what it is used for
	Path    string // the file that was opened, "" when none was
	Version string
	Used    bool
	Why     string // why it is not used, or a remark on how it is
	Install string // the command that installs it, where Used is false
}
