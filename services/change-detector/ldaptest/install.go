package ldaptest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
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
	if cache, err := cacheRoot(); err == nil {
		if _, err := os.Stat(filepath.Join(cache, ".complete")); err == nil {
			if i := installed(cache); i != nil {
				return i, nil
			}
		}
	}
	script, err := findScript()
	if err != nil {
		return nil, err
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, script) //nolint:gosec // our own script
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w\n%s", script, err, stderr.String())
	}
	if i := installed(strings.TrimSpace(string(out))); i != nil {
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

// cacheRoot is where scripts/slapd.sh unpacks to.
func cacheRoot() (string, error) {
	if dir := os.Getenv("ROLLCALL_CACHE"); dir != "" {
		return filepath.Join(dir, "slapd"), nil
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "rollcall", "slapd"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w", err)
	}
	return filepath.Join(home, ".cache", "rollcall", "slapd"), nil
}

// findScript walks up from this source file and from the working directory.
func findScript() (string, error) {
	var starts []string
	if _, file, _, ok := runtime.Caller(0); ok {
		starts = append(starts, filepath.Dir(file))
	}
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	for _, dir := range starts {
		for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			script := filepath.Join(dir, "scripts", "slapd.sh")
			if _, err := os.Stat(script); err == nil {
				return script, nil
			}
		}
	}
	return "", errors.New("no OpenLDAP server found: install slapd and ldap-utils (openldap-servers and openldap-clients), or run scripts/slapd.sh of the repository")
}

// run runs a program to its end and returns its output.
func (i *installation) run(ctx context.Context, input, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, i.programs[name], args...) //nolint:gosec // our own arguments
	cmd.Env = i.env()
	cmd.Stdin = strings.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("run %s: %w: %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

func (i *installation) env() []string {
	env := append(os.Environ(), "LDAPNOINIT=1")
	if i.library != "" {
		env = append(env, "LD_LIBRARY_PATH="+i.library)
	}
	return env
}
