// Package monitoring holds the dashboard and the alerts of deploy/ against the
// metrics of a real `rollcall run`, as a real Prometheus has them.
package monitoring

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/pkg/service"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
	"github.com/rollcall-scim/rollcall/services/rollcall/allinone"
)

const (
	root     = "../../.."
	files    = root + "/deploy/helm/rollcall/monitoring/"
	patience = 2 * time.Minute
	scrape   = time.Second
	token    = "monitoring"
)

// Every panel and every alert asks for metrics that are there, before anything went
// wrong: a metric that appears with the first failure is one that nobody counts.
func TestDashboardAndAlertsAskForWhatIsThere(t *testing.T) { //nolint:paralleltest // there is one telemetry in a process
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	metrics := free(ctx, t)
	directory := ldaptest.Start(t, ldaptest.Options{LDIF: people})
	startRollcall(ctx, t, directory, metrics, "")
	prometheus := startPrometheus(ctx, t, metrics)
	queries := panels(t)
	if len(queries) < 10 {
		t.Fatalf("%d queries in the dashboard", len(queries))
	}
	for name, parts := range alerts(t) {
		for i, part := range parts {
			queries[fmt.Sprintf("alert %s %d", name, i)] = part
		}
	}
	maps.Copy(queries, scalers(t))
	next := time.NewTicker(scrape / 2)
	defer next.Stop()
	for n := 0; len(queries) > 0; n++ { // rates take changes that go on
		directory.LDIF(t, fmt.Sprintf("dn: uid=u1,ou=people,dc=example,dc=com\nchangetype: modify\nreplace: sn\nsn: N%d\n", n))
		for name, query := range queries {
			switch found, err := ask(ctx, prometheus, query); {
			case ctx.Err() != nil:
				for name, query := range queries {
					t.Errorf("%s: no data for %s", name, query)
				}
				return
			case err != nil:
				t.Fatalf("%s: %v in %s", name, err, query)
			case found:
				delete(queries, name)
			}
		}
		select {
		case <-ctx.Done():
		case <-next.C:
		}
	}
}

// startRollcall runs a target, and Rollcall between it and a directory.
func startRollcall(ctx context.Context, t *testing.T, directory *ldaptest.Server, metrics, otlp string) {
	t.Helper()
	target := scimtest.NewServer(t, scimtest.Options{Token: token})
	dir := t.TempDir()
	file := filepath.Join(dir, "rollcall.yaml")
	config := strings.NewReplacer("$LDAP", directory.URL, "$READER", directory.ReaderDN, "$PASSWORD", directory.ReaderPassword,
		"$SCIM", target.URL(), "$TOKEN", token, "$DATA", filepath.Join(dir, "data"), "$METRICS", metrics, "$OTLP", otlp, "$DIR", dir).Replace(configuration)
	for name, text := range map[string]string{"password": directory.ReaderPassword, "token": token} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := connection.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx, "rollcall", cfg, allinone.Run) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("rollcall: %v", err)
		}
	})
	for target.Count(scim.KindUser) < 2 || target.Count(scim.KindGroup) < 1 {
		select {
		case err := <-done:
			done <- nil
			t.Fatalf("rollcall ended: %v", err)
		case <-ctx.Done():
			t.Fatal("the target does not get the users")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// startPrometheus runs Prometheus, which reads the metrics each second.
func startPrometheus(ctx context.Context, t *testing.T, metrics string) string {
	t.Helper()
	out, err := exec.CommandContext(ctx, root+"/scripts/prometheus.sh").Output()
	if err != nil {
		t.Fatalf("find Prometheus: %v", err)
	}
	dir, listen := t.TempDir(), free(ctx, t)
	config := "global: {scrape_interval: " + scrape.String() + "}\nscrape_configs:\n  - {job_name: rollcall, static_configs: [{targets: [\"" + metrics + "\"], labels: {namespace: rollcall}}]}\n"
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(strings.TrimSpace(string(out)), "prometheus"),
		"--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+listen, "--log.level=warn")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for {
		if up, err := ask(ctx, "http://"+listen, "up == 1"); err == nil && up {
			return "http://" + listen
		}
		select {
		case <-ctx.Done():
			t.Fatal("Prometheus does not read the metrics")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// panels are the queries of the dashboard, with Grafana's variables filled in.
func panels(t *testing.T) map[string]string {
	t.Helper()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	read(t, "dashboard.json", json.Unmarshal, &dashboard)
	queries := map[string]string{}
	for _, p := range dashboard.Panels {
		for i, target := range p.Targets {
			queries[fmt.Sprintf("panel %q %d", p.Title, i)] = strings.NewReplacer("$connection", ".*", "$__rate_interval", "10s").Replace(target.Expr)
		}
	}
	return queries
}

// alerts are the metrics that the alerts read: an alert itself has no data while all
// is well.
func alerts(t *testing.T) map[string][]string {
	t.Helper()
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert string
				Expr  string
			}
		}
	}
	read(t, "alerts.yaml", yaml.Unmarshal, &rules)
	parts := map[string][]string{}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			for _, word := range strings.FieldsFunc(r.Expr, func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz_:", r) }) {
				if strings.HasPrefix(word, "rollcall_") && !labels[word] {
					parts[r.Alert] = append(parts[r.Alert], word)
				}
			}
			if len(parts[r.Alert]) == 0 {
				t.Errorf("%s reads no metric", r.Alert)
			}
		}
	}
	return parts
}

// scalers are the queries by which replicas follow the backlog, as the chart renders
// them for a release in the namespace rollcall.
func scalers(t *testing.T) map[string]string {
	t.Helper()
	file, err := os.Open(root + "/deploy/helm/rollcall/ci/golden/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	queries := map[string]string{}
	for decoder := yaml.NewDecoder(file); ; {
		var object struct {
			Kind string
			Spec struct {
				Triggers []struct{ Metadata struct{ Query string } }
			}
		}
		switch err := decoder.Decode(&object); {
		case errors.Is(err, io.EOF):
			if len(queries) == 0 {
				t.Error("no ScaledObject in the golden render")
			}
			return queries
		case err != nil:
			t.Fatal(err)
		case object.Kind != "ScaledObject":
			continue
		}
		for i, trigger := range object.Spec.Triggers {
			queries[fmt.Sprintf("scaler %d", i)] = trigger.Metadata.Query
		}
	}
}

var labels = map[string]bool{"rollcall_part": true, "rollcall_invariant": true, "rollcall_connection": true, "rollcall_kind": true, "rollcall_source": true, "rollcall_reason": true, "rollcall_result": true}

func read(t *testing.T, name string, decode func([]byte, any) error, into any) {
	t.Helper()
	data, err := os.ReadFile(files + name)
	if err == nil {
		err = decode(data, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// ask says whether a query has data now.
func ask(ctx context.Context, prometheus, query string) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, prometheus+"/api/v1/query?query="+url.QueryEscape(query), nil)
	if err != nil {
		return false, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Error string
		Data  struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return false, err
	}
	if answer.Error != "" {
		return false, fmt.Errorf("%w: %s", errRefused, answer.Error)
	}
	for _, r := range answer.Data.Result {
		if r.Value[1] != "NaN" {
			return true, nil
		}
	}
	return false, nil
}

// free is an address that nobody listens at.
func free(ctx context.Context, t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
