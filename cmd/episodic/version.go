package main

import (
	"cmp"
	"runtime"
	"runtime/debug"
)

type versionCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

type version struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from a checkout with changes
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// buildVersion is what was built into this program.
func buildVersion() version {
	v := version{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		v.Version = cmp.Or(info.Main.Version, v.Version)
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Commit = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	return v
}

func (c *versionCmd) Run(a *app) error {
	v := buildVersion()
	if c.JSON {
		return a.printJSON(v)
	}
	a.printf("episodic %s (%s, %s)\n", v.Version, v.Go, v.Platform)
	if v.Commit != "" {
		a.printf("commit %s\n", v.Commit)
	}
	return nil
}
