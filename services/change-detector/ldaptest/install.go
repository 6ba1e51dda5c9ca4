package ldaptest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest/internal/scratch"
)

// installation is where OpenLDAP's programs and files are.
type installation struct {
	programs map[string]string // full paths by name
	modules  string            // empty: everything is built in
	schema   string
	library  string // LD_LIBRARY_PATH, empty for an installed one
}

var programs = []string{"slapd", "ldapsearch", "ldapmodify"}

// findInstallation looks on the system, then in the cache, which it fills by
// scripts/slapd.sh if need be.
func findInstallation(ctx context.Context) (*installation, error) {
	if i := installed(""); i != nil {
		return i, nil
	}
	if cache, err := scratch.Cache("slapd"); err == nil {
		if _, err := os.Stat(filepath.Join(cache, ".complete")); err == nil {
			if i := installed(cache); i != nil {
				return i, nil
			}
		}
	}
	root, err := scratch.RunScript(ctx, "slapd.sh")
	if err != nil {
		return nil, fmt.Errorf("find an OpenLDAP server: %w; install slapd and ldap-utils (openldap-servers and openldap-clients)", err)
	}
	if i := installed(root); i != nil {
		return i, nil
	}
	return nil, errors.New("slapd is there, its schema files or modules are not: install the package slapd (openldap-servers) completely")
}

// installed is the installation below a root directory, or nil.
func installed(root string) *installation {
	i := &installation{programs: map[string]string{}}
	for _, name := range programs {
		path := findProgram(root, name)
		if path == "" {
			return nil
		}
		i.programs[name] = path
	}
	i.schema = firstGlob(root, "etc/ldap/schema", "etc/openldap/schema", "usr/local/etc/openldap/schema", "opt/homebrew/etc/openldap/schema")
	modules := firstGlob(root, "usr/lib/ldap/back_mdb*", "usr/lib/openldap/syncprov*", "usr/lib64/openldap/syncprov*",
		"usr/lib/*/ldap/syncprov*", "usr/local/libexec/openldap/syncprov*")
	if modules != "" {
		i.modules = filepath.Dir(modules)
	}
	if root != "" {
		i.library = firstGlob(root, "usr/lib/*-linux-*")
	}
	if i.schema == "" {
		return nil
	}
	return i
}

func findProgram(root, name string) string {
	if root == "" {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return firstGlob(root, "usr/sbin/"+name, "usr/bin/"+name, "usr/local/sbin/"+name, "usr/libexec/"+name,
		"usr/local/libexec/"+name, "opt/homebrew/opt/openldap/libexec/"+name, "opt/homebrew/opt/openldap/bin/"+name)
}

func firstGlob(root string, patterns ...string) string {
	for _, pattern := range patterns {
		if found, err := filepath.Glob(filepath.Join("/", root, pattern)); err == nil && len(found) > 0 {
			return found[0]
		}
	}
	return ""
}

// run runs a program to its end and returns its output.
func (i *installation) run(ctx context.Context, input, name string, args ...string) (string, error) {
	return scratch.Run(ctx, i.env(), input, i.programs[name], args...)
}

func (i *installation) env() []string {
	env := append(os.Environ(), "LDAPNOINIT=1")
	if i.library != "" {
		env = append(env, "LD_LIBRARY_PATH="+i.library)
	}
	return env
}
