//go:build kubernetes

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/services/rollcall/kubetest"
)

// TestKEDA lets KEDA itself follow the backlog, which it asks of a real Prometheus: a
// crowd is hired, replicas come, workers are killed in the middle, and when all is done
// one replica is left. It is apart from TestChart, because KEDA takes long to build.
func TestKEDA(t *testing.T) {
	kubetest.Run(t, func(t *testing.T, n *kubetest.Node) { //nolint:thelper // it is the test
		if n.Pretended {
			t.Fatal("KEDA has to run for this: only root can run containers")
		}
		c := newCluster(t, n)
		c.startPrometheus(t)
		c.startKEDA(t)
		c.install(t, "helm")
		if err := c.firstSync(t.Context()); err != nil {
			t.Fatalf("%v\n%s", err, c.states(t))
		}
		c.crowd(t, "keda", "--set=userSync.autoscaling.keda.prometheus.serverAddress=http://prometheus.prometheus.svc:9090",
			"--set=userSync.autoscaling.keda.pollingInterval=2")
		c.uninstall(t, "helm")
	})
}

// startPrometheus runs a Prometheus in a pod that asks every pod of the release, as it
// finds them by the name of their headless service.
func (c *cluster) startPrometheus(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "prometheus.yaml")
	if err := os.WriteFile(file, []byte(prometheusConfiguration), 0o600); err != nil {
		t.Fatal(err)
	}
	dir, err := kubetest.Script(t.Context(), "prometheus.sh")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "prometheus")
	image := kubetest.Image{Name: "localhost/prometheus:test", Entrypoint: "/prometheus", Files: map[string]string{"/prometheus": program, "/prometheus.yaml": file}}
	libraries, err := exec.CommandContext(t.Context(), "ldd", program).Output()
	if err != nil {
		t.Fatalf("ldd: %v", err)
	}
	for word := range strings.FieldsSeq(string(libraries)) {
		if filepath.IsAbs(word) {
			image.Files[word] = word
		}
	}
	c.Import(t, image)
	c.startPod(t, "prometheus", pod{
		Image: image.Name, Args: []string{"--config.file=/prometheus.yaml", "--storage.tsdb.path=/data"}, Data: "/data", Ports: map[int]int{9090: 9090},
	})
}

// A Prometheus of the operator's labels what it scrapes with the namespace by itself.
const prometheusConfiguration = `
global: {scrape_interval: 1s}
scrape_configs:
  - job_name: rollcall
    dns_sd_configs: [{names: [rollcall-metrics.rollcall.svc.cluster.local], type: A, port: 9090, refresh_interval: 2s}]
    relabel_configs: [{target_label: namespace, replacement: rollcall}]
`

// startKEDA runs KEDA as its own manifests say, without its webhook.
func (c *cluster) startKEDA(t *testing.T) {
	t.Helper()
	dir, err := kubetest.Script(t.Context(), "keda.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"keda", "keda-adapter"} {
		c.Import(t, kubetest.Image{
			Name: "localhost/" + program + ":test", Entrypoint: "/" + program, Files: map[string]string{"/" + program: filepath.Join(dir, program)},
		})
	}
	objects, err := os.ReadFile(filepath.Join(dir, "keda.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c.Apply(t, string(objects))
	c.Kubectl(t, "--namespace=keda", "rollout", "status", "deployment", "--timeout=3m")
	c.Kubectl(t, "wait", "--for=condition=Available", "apiservice/v1beta1.external.metrics.k8s.io", "--timeout=2m")
}
