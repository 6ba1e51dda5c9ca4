package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
	"github.com/rollcall-scim/rollcall/services/rollcall/demo/compare"
)

const (
	token          = "demo-token"
	requestTimeout = 10 * time.Second
	startTimeout   = 30 * time.Second
)

// stage is everything that runs: directory, target and Rollcall.
type stage struct {
	printer   *printer
	dir       string
	root      string // of the repository
	openldap  string // where OpenLDAP is unpacked; empty: it is installed
	directory *ldaptest.Server
	scim      compare.Target
	traffic   *traffic
	rollcall  *child
	target    *child
	children  []*child // in order of their start
	kept      []string // userNames whose accounts stay, disabled
	started   time.Time
	metrics   string
	console   string
	telemetry string // more keys of the configuration's telemetry, each with a comma behind it
}

// newStage builds and starts everything. What it returns is to be closed, even
// beside an error.
func newStage(ctx context.Context, p *printer, dir string, c *company) (*stage, error) {
	s := &stage{printer: p, dir: dir}
	return s, s.begin(ctx, c)
}

// begin builds and starts everything.
func (s *stage) begin(ctx context.Context, c *company) error {
	p := s.printer
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"building rollcall and the target", s.build},
		{"starting OpenLDAP (where it is missing, Debian's packages are unpacked into the cache)", func(ctx context.Context) error { return s.startDirectory(ctx, c) }},
		{"starting the target", s.startTarget},
		{"starting rollcall", s.startRollcall},
	} {
		p.status("%s ...", step.name)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	p.line("directory          %s  OpenLDAP: %d people, %d groups", s.directory.URL, len(c.people), len(c.groups))
	p.line("target             %s", s.scim.URL)
	p.line("live page          %s", s.traffic.page+"/")
	p.line("rollcall's log     %s", s.rollcall.log)
	p.line("")
	return nil
}

// close ends everything, what was started last first.
func (s *stage) close() error {
	var errs []error
	for _, c := range slices.Backward(s.children) {
		errs = append(errs, c.stop())
	}
	if s.directory != nil {
		errs = append(errs, s.directory.Stop())
	}
	return errors.Join(errs...)
}

var errNoRoot = errors.New("run this in the repository: go run ./services/rollcall/demo")

// findRoot walks up to the repository's root.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "scripts", "slapd.sh")); err == nil {
			return dir, nil
		}
	}
	return "", errNoRoot
}

// build compiles both programs; Go's cache makes that quick. Git is not asked: it
// refuses where root builds what belongs to somebody else.
func (s *stage) build(ctx context.Context) (err error) {
	if s.root, err = findRoot(); err != nil {
		return err
	}
	bin := filepath.Join(s.dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", bin, "./services/rollcall", "./pkg/scim/scimtest/cmd/scimtest") //nolint:gosec // our own arguments
	cmd.Dir = s.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build rollcall and the target: %w\n%s", err, out)
	}
	return nil
}

// startDirectory starts OpenLDAP with the company in it.
func (s *stage) startDirectory(ctx context.Context, c *company) (err error) {
	s.directory, err = ldaptest.Launch(ctx, filepath.Join(s.dir, "slapd"), ldaptest.Options{Suffix: suffix, LDIF: c.ldif(), MemberOf: "overlay"})
	if err != nil {
		return fmt.Errorf("start OpenLDAP: %w", err)
	}
	// Instant now. Where it fails, OpenLDAP was found in a place of its own.
	if out, err := exec.CommandContext(ctx, filepath.Join(s.root, "scripts", "slapd.sh")).Output(); err == nil { //nolint:gosec // our own script
		s.openldap = strings.TrimSpace(string(out))
	}
	return nil
}

// startTarget starts the SCIM server and learns its address.
func (s *stage) startTarget(ctx context.Context) error {
	file := filepath.Join(s.dir, "target.url")
	var err error
	if s.target, err = s.start("scimtest", nil, "-token", token, "-url-file", file); err != nil {
		return err
	}
	var url string
	err = s.await(ctx, s.target, "the target to start", startTimeout, 10*time.Millisecond, func() (bool, error) {
		text, err := os.ReadFile(file) //nolint:gosec // our own file
		url = strings.TrimSpace(string(text))
		return err == nil, nil // the file appears when the target is ready
	})
	client := &http.Client{Timeout: requestTimeout}
	s.scim = compare.Target{URL: url, Token: token, Client: client}
	s.traffic = newTraffic(strings.TrimSuffix(url, "/scim/v2"), client)
	return err
}

// startRollcall writes the configuration and runs the product.
func (s *stage) startRollcall(ctx context.Context) (err error) {
	var listen [2]string
	for i := range listen {
		if listen[i], err = freeAddress(ctx); err != nil {
			return err
		}
	}
	s.metrics, s.console = "http://"+listen[0]+"/metrics", "http://"+listen[1]+"/"
	file := filepath.Join(s.dir, "rollcall.yaml")
	text := fmt.Sprintf(surroundings, filepath.Join(s.dir, "data"), listen[0], listen[1], s.telemetry) +
		fmt.Sprintf(configuration, s.directory.URL, s.directory.ReaderDN, s.scim.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	s.started = time.Now()
	s.rollcall, err = s.start("rollcall", []string{"LDAP_PASSWORD=" + s.directory.ReaderPassword, "SCIM_TOKEN=" + token}, "run", "-c", file)
	return err
}

// surroundings are where Rollcall runs; the arguments are the data directory, where to
// listen for metrics and console, and more keys of telemetry.
const surroundings = `nats: {data_dir: %[1]q}
console: {listen: %[3]q}
telemetry: {%[4]smetrics_listen: %[2]q, log: {level: info, format: text}}
`

// configuration is what Rollcall is to do; its arguments are the LDAP URL, the DN to
// bind as and the SCIM URL.
const configuration = `sources:
  corp:
    ldap: {urls: [%[1]q], bind_dn: %[2]q, bind_password: "${env:LDAP_PASSWORD}"}
    preset: openldap
    users:
      base_dns: ["ou=people,` + suffix + `"]
      filter: (objectClass=inetOrgPerson)
      enabled: '!("left" in user.all.employeeType)'
    groups:
      base_dns: ["ou=groups,` + suffix + `"]
      filter: (objectClass=groupOfNames)
      nested: flatten
connections:
  wiki:
    source: corp
    target:
      url: %[3]q
      auth: {bearer: {token: "${env:SCIM_TOKEN}"}}
      rate: {requests_per_second: 0}
      overrides: {member_remove_vouched: true}
    users:
      remove: disable
      attributes:
        userName: user.uid
        name.givenName: user.givenName
        name.familyName: user.sn
        displayName: user.cn
        'emails[type eq "work"].value': user.mail
        title: user.title
        urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department: user.departmentNumber
        urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:employeeNumber: user.employeeNumber
    groups: {name: group.cn, remove: delete}
`

func freeAddress(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

var errPatience = errors.New("gave up waiting")

// await asks again and again until the answer is yes, the program ends, or the
// time is over.
func (s *stage) await(ctx context.Context, c *child, what string, patience, every time.Duration, ready func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%w for %s, after %v", errPatience, what, patience))
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if yes, err := ready(); yes || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-c.ended:
			return fmt.Errorf("wait for %s: %w", what, c.failure())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
