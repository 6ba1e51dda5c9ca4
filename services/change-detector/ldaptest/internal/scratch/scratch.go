// Package scratch is what every server of ldaptest needs: a process that ends with
// this one, keys, OpenLDAP's client tools, and a cache of what takes long to make.
package scratch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// Run runs a program to its end and returns its output.
func Run(ctx context.Context, env []string, input, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // our own arguments
	cmd.Env = env
	cmd.Stdin = strings.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("run %s: %w: %s", filepath.Base(program), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// RunScript runs one of the repository's scripts and returns what it prints, with
// what it said beside that in the error.
func RunScript(ctx context.Context, name string) (string, error) {
	script, err := findScript(name)
	if err != nil {
		return "", err
	}
	out, err := Run(ctx, os.Environ(), "", script)
	return strings.TrimSpace(out), err
}

// findScript walks up from this source file and from the working directory.
func findScript(name string) (string, error) {
	var starts []string
	if _, file, _, ok := runtime.Caller(0); ok {
		starts = append(starts, filepath.Dir(file))
	}
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	for _, dir := range starts {
		for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			script := filepath.Join(dir, "scripts", name)
			if _, err := os.Stat(script); err == nil {
				return script, nil
			}
		}
	}
	return "", fmt.Errorf("find scripts/%s: %w", name, errNoRepository)
}

var errNoRepository = errors.New("neither this program's source nor the working directory is in the repository")

// Cache is the directory of one kind of server in the cache of the scripts.
func Cache(name string) (string, error) {
	if dir := os.Getenv("ROLLCALL_CACHE"); dir != "" {
		return filepath.Join(dir, name), nil
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "rollcall", name), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the cache directory: %w", err)
	}
	return filepath.Join(home, ".cache", "rollcall", name), nil
}

// Client is an account at a server, used through OpenLDAP's client tools.
type Client struct{ URL, DN, Password string }

// Ask reads the root of a server, to see whether it answers.
func (c Client) Ask(ctx context.Context) error {
	_, err := Run(ctx, toolEnv(), "", "ldapsearch", "-x", "-H", c.URL, "-b", "", "-s", "base", "1.1")
	return err
}

// Apply sends change records, and entries without a changetype as adds.
func (c Client) Apply(ctx context.Context, ldif string) error {
	_, err := Run(ctx, toolEnv(), ldif, "ldapmodify", "-a", "-x", "-H", c.URL, "-D", c.DN, "-w", c.Password)
	return err
}

// Search returns the LDIF of a search.
func (c Client) Search(ctx context.Context, args ...string) (string, error) {
	args = append([]string{"-x", "-LLL", "-o", "ldif-wrap=no", "-H", c.URL, "-D", c.DN, "-w", c.Password}, args...)
	return Run(ctx, toolEnv(), "", "ldapsearch", args...)
}

func toolEnv() []string { return append(os.Environ(), "LDAPNOINIT=1") }

// FreeURL is a URL with a free port at an address of this machine.
func FreeURL(ctx context.Context, scheme string, at net.IP) (string, error) {
	var config net.ListenConfig
	var err error
	for range portTries {
		port := firstPort + rand.IntN(lastPort-firstPort+1) //nolint:gosec // no secret
		address := net.JoinHostPort(at.String(), strconv.Itoa(port))
		var l net.Listener
		if l, err = config.Listen(ctx, "tcp", address); err != nil {
			continue
		}
		if err = l.Close(); err == nil {
			return scheme + "://" + address, nil
		}
	}
	return "", fmt.Errorf("find a free port: %w", err)
}

// Systems give outgoing connections and listeners that do not choose the ports above
// these: one of them could take a port before the server does.
const (
	firstPort, lastPort = 12_000, 32_000
	portTries           = 100
)
