package setup

import (
	"slices"
	"strings"
)

// Machine is where clients keep their files. It reads nothing.
type Machine struct {
	GOOS   string // as in runtime.GOOS
	Home   string // the user's folder
	Getenv func(string) string
}

// join puts a path together as the operating system writes it.
func (m *Machine) join(parts ...string) string {
	path := strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "/")
	if m.GOOS == "windows" {
		path = strings.ReplaceAll(path, "/", `\`)
	}
	return path
}

// home is a path below the user's folder, or below the folder that a variable names.
func (m *Machine) home(variable, folder string, more ...string) string {
	base := m.join(m.Home, folder)
	if variable != "" {
		if v := m.Getenv(variable); v != "" {
			base = v
		}
	}
	return m.join(append([]string{base}, more...)...)
}

// xdg is a path below the folder of settings, for programs that have it at the same place on
// all systems.
func (m *Machine) xdg(more ...string) string { return m.home("XDG_CONFIG_HOME", ".config", more...) }

// support is a path below the folder of settings of programs with windows.
func (m *Machine) support(more ...string) string {
	switch m.GOOS {
	case "windows":
		return m.home("APPDATA", "AppData/Roaming", more...)
	case "darwin":
		return m.home("", "Library/Application Support", more...)
	}
	return m.xdg(more...)
}
