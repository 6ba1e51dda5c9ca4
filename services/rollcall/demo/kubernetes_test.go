//go:build kubernetes

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
	"github.com/rollcall-scim/rollcall/services/rollcall/demo/compare"
	"github.com/rollcall-scim/rollcall/services/rollcall/kubetest"
)

// TestChart installs the chart on a real Kubernetes and plays the company's morning
// there:
//
//  1. directory, target and images are there; the namespace takes restricted pods only
//  2. `helm install --wait`, and `helm test`
//  3. the first synchronization, the story, the judge's verdict, and what the console says
//  4. a crowd is hired: replicas follow the backlog, workers are killed in the middle
//  5. changes go on while the release is upgraded and rolled back
//  6. `helm uninstall`, which leaves nothing
//  7. the same life once more by Helm 3, beside a NATS that was there before, which wants
//     to know who comes; without the story
//
// Where pods are only pretended, what needs them is left out.
func TestChart(t *testing.T) {
	kubetest.Run(t, func(t *testing.T, n *kubetest.Node) { //nolint:thelper // it is the test
		c := newCluster(t, n)                             // 1
		c.install(t, "helm", "--set=userSync.replicas=2") // 2
		if n.Pretended {
			c.upgrade(t, "helm")
		} else {
			c.story(t)         // 3
			startBacklog(t, c) // 4
			c.crowd(t, "hpa")
			c.upgradeUnderLoad(t) // 5
		}
		c.uninstall(t, "helm") // 6
		c.startNATS(t)         // 7
		c.install(t, "helm3")
		c.upgrade(t, "helm3")
		c.uninstall(t, "helm3")
	})
}

const (
	release   = "rollcall"
	patience  = 2 * time.Minute // for what Kubernetes does with pods
	crowdSize = 1500
	most      = 4 // replicas of user-sync
)

// cluster is a Kubernetes with the chart, and a company around it.
type cluster struct {
	*kubetest.Node
	*stage

	chart, values string
	helms         map[string]string // the programs, by their names here
	natsServer    string            // the program
	nats          []string          // values of another NATS than the chart's own
}

// newCluster brings the images, and starts directory and target.
func newCluster(t *testing.T, n *kubetest.Node) *cluster {
	t.Helper()
	root, err := findRoot()
	if err != nil {
		t.Fatal(err)
	}
	helm, err := exec.LookPath("helm")
	if err != nil {
		t.Fatalf("%v; `make test-k8s` brings it", err)
	}
	c := &cluster{
		Node: n, helms: map[string]string{"helm": helm, "helm3": "helm3"}, chart: filepath.Join(root, "deploy", "helm", "rollcall"), values: filepath.Join(t.TempDir(), "values.yaml"),
		stage: &stage{printer: newPrinter(t.Output()), rollcall: &child{ended: make(chan struct{}), log: os.DevNull}, target: &child{log: os.DevNull}},
	}
	c.natsServer = filepath.Join(root, "bin/image/nats/nats-server")
	images := []kubetest.Image{
		{Name: "localhost/nats:test", Files: map[string]string{"/nats-server": c.natsServer}, Entrypoint: "/nats-server"},
		{Name: "localhost/scimtest:test", Files: map[string]string{"/scimtest": filepath.Join(root, "bin/image/scimtest/scimtest")}, Entrypoint: "/scimtest"},
	}
	for _, service := range []string{"change-detector", "user-sync", "group-sync", "console", "rollcall"} {
		context := filepath.Join(root, "bin/image", service)
		images = append(images, kubetest.Image{Name: "localhost/rollcall/" + service + ":test", Entrypoint: "/service", Files: map[string]string{
			"/service": filepath.Join(context, service), "/etc/ssl/certs/ca-certificates.crt": filepath.Join(context, "ca-certificates.crt"),
		}})
	}
	n.Import(t, images...)
	c.startDirectory(t)
	c.startTarget(t)
	c.prepare(t)
	return c
}

// startDirectory runs OpenLDAP in a pod, and brings the company.
func (c *cluster) startDirectory(t *testing.T) {
	t.Helper()
	server, parcel, err := ldaptest.Pack(t.Context(), t.TempDir(), directoryHost, ldaptest.Options{
		Suffix: suffix, LDIF: newCompany().ldif(), MemberOf: "overlay", TLS: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	image := kubetest.Image{Name: "localhost/slapd:test", Files: map[string]string{}, Entrypoint: parcel.Command[0]}
	for _, file := range parcel.Files {
		image.Files[file] = file
	}
	c.Import(t, image)
	address := c.startPod(t, "directory", pod{
		Image: image.Name, Args: parcel.Command[1:], Env: parcel.Env, Data: parcel.Data, Ports: map[int]int{389: 1389, 636: 1636},
	})
	c.directory = server
	server.URL, server.TLSURL = "ldap://"+address, "ldaps://"+directoryHost
	if c.Pretended {
		return
	}
	if err := server.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
}

const directoryHost = "directory.directory.svc"

// startTarget runs the SCIM server in a pod; each of its answers takes a while, so that
// a backlog can be seen.
func (c *cluster) startTarget(t *testing.T) {
	t.Helper()
	page := "http://" + c.startPod(t, "target", pod{
		Image: "localhost/scimtest:test", Args: []string{"-listen=0.0.0.0:8080", "-token=" + token, "-latency=50ms"}, Ports: map[int]int{8080: 8080},
	}) + ":8080"
	client := &http.Client{Timeout: requestTimeout}
	c.scim = compare.Target{URL: page + "/scim/v2", Token: token, Client: client}
	c.traffic = newTraffic(page, client)
}

// startNATS runs a NATS with one user in a pod; releases that are installed from now on
// meet there.
func (c *cluster) startNATS(t *testing.T) {
	t.Helper()
	user, seed := bustest.User(t)
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, natsConfiguration, user), 0o600); err != nil {
		t.Fatal(err)
	}
	image := kubetest.Image{Name: "localhost/nats:users", Files: map[string]string{"/nats-server": c.natsServer, "/nats.conf": file}, Entrypoint: "/nats-server"}
	c.Import(t, image)
	c.startPod(t, "nats", pod{Image: image.Name, Args: []string{"-c", "/nats.conf"}, Data: "/data", Ports: map[int]int{4222: 4222}})
	c.Kubectl(t, "--namespace=rollcall", "create", "secret", "generic", "rollcall-nats", "--from-literal=nats.creds="+seed)
	c.nats = []string{"--set=nats.embedded.enabled=false", "--set=nats.url=nats://nats.nats.svc:4222", "--set=nats.existingSecret=rollcall-nats"}
}

const natsConfiguration = `
port: 4222
jetstream {store_dir: /data, sync_interval: always}
authorization {users: [{nkey: %s}]}
`

// pod is what a program runs with.
type pod struct {
	Image     string
	Args, Env []string
	Data      string      // a directory that it may write to
	Ports     map[int]int // of the program, by those of the service
}

// startPod runs a program in a pod without rights, in a namespace and behind a service
// of its name, and returns the service's address.
func (c *cluster) startPod(t *testing.T, name string, p pod) (address string) {
	t.Helper()
	c.Apply(t, p.manifest(t, name))
	c.Kubectl(t, "--namespace="+name, "rollout", "status", "deployment/"+name, "--timeout=2m")
	return c.address(t, name, name)
}

// address is where a service answers.
func (c *cluster) address(t *testing.T, namespace, name string) string {
	t.Helper()
	var service struct {
		Spec struct {
			ClusterIP string `json:"clusterIP"`
		} `json:"spec"`
	}
	c.Get(t, &service, "--namespace="+namespace, "service/"+name)
	return service.Spec.ClusterIP
}

// manifest is a namespace for restricted pods only, with a service and a deployment.
func (p pod) manifest(t *testing.T, name string) string {
	t.Helper()
	type object = map[string]any
	var ports, env, volumes, mounts []object
	probe := 0
	for service, port := range p.Ports {
		ports = append(ports, object{"name": fmt.Sprintf("p%d", service), "port": service, "targetPort": port})
		probe = max(probe, port)
	}
	for _, variable := range p.Env {
		key, value, _ := strings.Cut(variable, "=")
		env = append(env, object{"name": key, "value": value})
	}
	if p.Data != "" {
		volumes, mounts = []object{{"name": "data", "emptyDir": object{}}}, []object{{"name": "data", "mountPath": p.Data}}
	}
	labels := object{"app": name}
	list := object{"apiVersion": "v1", "kind": "List", "items": []object{
		{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": name, "labels": object{"pod-security.kubernetes.io/enforce": "restricted"}}},
		{
			"apiVersion": "v1", "kind": "Service", "metadata": object{"name": name, "namespace": name},
			"spec": object{"selector": labels, "ports": ports},
		},
		{
			"apiVersion": "apps/v1", "kind": "Deployment", "metadata": object{"name": name, "namespace": name},
			"spec": object{"selector": object{"matchLabels": labels}, "template": object{"metadata": object{"labels": labels}, "spec": object{
				"automountServiceAccountToken": false,
				"securityContext":              object{"runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": object{"type": "RuntimeDefault"}},
				"volumes":                      volumes,
				"containers": []object{{
					"name": name, "image": p.Image, "imagePullPolicy": "Never", "args": p.Args, "env": env, "volumeMounts": mounts,
					"readinessProbe":  object{"tcpSocket": object{"port": probe}, "periodSeconds": 1},
					"securityContext": object{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": object{"drop": []string{"ALL"}}},
				}},
			}}},
		},
	}}
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// prepare makes the namespace, the Secret and the values.
func (c *cluster) prepare(t *testing.T) {
	t.Helper()
	c.Apply(t, `apiVersion: v1
kind: Namespace
metadata: {name: rollcall, labels: {pod-security.kubernetes.io/enforce: restricted}}
`)
	c.Kubectl(t, "--namespace=rollcall", "create", "secret", "generic", "rollcall-secrets",
		"--from-literal=ldap-password="+c.directory.ReaderPassword, "--from-literal=scim-token="+token, "--from-literal=console-token="+consoleToken, "--from-file=ca.pem="+c.directory.CAFile)
	secret := func(key string) string { return "${file:/run/secrets/rollcall/rollcall-secrets/" + key + "}" }
	text := fmt.Sprintf(configuration, c.directory.TLSURL, c.directory.ReaderDN, "http://target.target.svc:8080/scim/v2")
	text = strings.NewReplacer("${env:LDAP_PASSWORD}", secret("ldap-password"), "${env:SCIM_TOKEN}", secret("scim-token")).Replace(text)
	text = "config:\n  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ") + values
	if err := os.WriteFile(c.values, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// values are the rest of the chart's values, and what the configuration needs in a
// cluster: no NATS but the chart's own, a directory whose certificate is not public,
// and a target that several replicas keep busy for a while.
const values = `
image: {registry: localhost, tag: test, pullPolicy: Never}
nats: {embedded: {enabled: true, image: "localhost/nats:test", storage: {size: ""}}}
existingSecrets: [{name: rollcall-secrets}]
networkPolicy: {enabled: true}
console: {enabled: true}
`

const consoleToken = "whoever-shows-this-may-look"

// install installs the chart and lets it test itself.
func (c *cluster) install(t *testing.T, helm string, args ...string) {
	t.Helper()
	began := time.Now()
	c.started = began
	c.helm(t, helm, "install", append([]string{release, c.chart, "--wait"}, args...)...)
	t.Logf("%s install: everything is ready after %.1f s", helm, time.Since(began).Seconds())
	if !c.Pretended {
		t.Logf("%s test:\n%s", helm, c.helm(t, helm, "test", release))
	}
}

// helm runs a Helm with the values of this test.
func (c *cluster) helm(t *testing.T, program, verb string, args ...string) string {
	t.Helper()
	args = append([]string{verb}, args...)
	args = append(args, "--namespace=rollcall", "--timeout=3m")
	if verb == "install" || verb == "upgrade" {
		args = append(args, "--values="+c.values,
			"--set=config.sources.corp.ldap.ca_file=/run/secrets/rollcall/rollcall-secrets/ca.pem",
			"--set=config.console.auth.token=${file:/run/secrets/rollcall/rollcall-secrets/console-token}",
			"--set=config.connections.wiki.target.insecure=true", "--set=config.connections.wiki.target.concurrency=8")
		args = append(args, c.nats...)
	}
	out, err := c.Try(t.Context(), "", c.helms[program], args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, c.states(t))
	}
	return out
}

// states is what pods say of themselves, for whoever reads why something failed.
func (c *cluster) states(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	for _, args := range [][]string{
		{"get", "pods,jobs", "-o", "wide"},
		{"get", "events", "--sort-by=.lastTimestamp"},
		{"describe", "horizontalpodautoscalers"},
		{"logs", "--selector=app.kubernetes.io/instance=rollcall", "--tail=5", "--prefix", "--ignore-errors"},
	} {
		out, err := c.Try(context.WithoutCancel(t.Context()), "", "kubectl", append(args, "--namespace=rollcall")...)
		fmt.Fprintf(&b, "%s", out)
		if err != nil {
			fmt.Fprintln(&b, err)
		}
	}
	return b.String()
}

// story plays the morning, as the demo does.
func (c *cluster) story(t *testing.T) {
	t.Helper()
	if err := c.firstSync(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, c.states(t))
	}
	latencies, err := c.play(t.Context(), morning(newCompany()))
	if err != nil {
		t.Fatalf("%v\n%s", err, c.states(t))
	}
	verdict, err := c.verdict(t.Context(), latencies)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(verdict)
	c.console(t)
}

// console asks the console, as a person does, until it says that all is applied, and as
// somebody who does not know the token.
func (c *cluster) console(t *testing.T) {
	t.Helper()
	url := "http://" + c.address(t, "rollcall", "rollcall-console") + "/"
	ask := func(ctx context.Context, token string) (code int, page string, err error) {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return 0, "", err
		}
		req.SetBasicAuth("anybody", token)
		res, err := c.scim.Client.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer res.Body.Close() //nolint:errcheck // only read
		body, err := io.ReadAll(res.Body)
		return res.StatusCode, string(body), err
	}
	c.eventually(t, "the console to say that all is applied", func(ctx context.Context) error {
		code, page, err := ask(ctx, consoleToken)
		if err == nil && !strings.Contains(page, "All that was found is applied.") {
			err = fmt.Errorf("%d: %s", code, page)
		}
		return err
	})
	if code, page, err := ask(t.Context(), "another-token-of-some-length"); err != nil || code != http.StatusUnauthorized {
		t.Errorf("with a wrong token the console answers %d %s (%v)", code, page, err)
	}
}

// eventually waits until something holds, and says what pods say of themselves where
// it does not.
func (c *cluster) eventually(t *testing.T, what string, holds func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Await(ctx, holds); err != nil {
		t.Fatalf("waited %v for %s: %v\n%s", patience, what, err, c.states(t))
	}
}

// equal waits until target and directory hold the same.
func (c *cluster) equal(t *testing.T, what string) {
	t.Helper()
	began := time.Now()
	c.eventually(t, what, func(ctx context.Context) error {
		_, diff, err := c.compare(ctx)
		if err == nil && len(diff) > 0 {
			err = differs("directory and target differ", diff)
		}
		return err
	})
	t.Logf("%s: equal after %.1f s", what, time.Since(began).Seconds())
}

// crowd hires many people at once, while user-sync follows its backlog in a mode of
// autoscaling: it must come to more replicas and go back to one. On the way some of its
// pods are killed.
func (c *cluster) crowd(t *testing.T, mode string, args ...string) {
	t.Helper()
	c.helm(t, "helm", "upgrade", append([]string{
		release, c.chart, "--wait",
		"--set=userSync.autoscaling.mode=" + mode, "--set=userSync.autoscaling.targetBacklog=100",
		fmt.Sprintf("--set=userSync.autoscaling.maxReplicas=%d", most),
		"--set=userSync.autoscaling.behavior.scaleDown.stabilizationWindowSeconds=5",
	}, args...)...)
	c.replicas(t, "one replica without a backlog", 1)
	var ldif strings.Builder
	for i := range crowdSize {
		p := person{name: name{"Crowd", fmt.Sprintf("Member%d", i), fmt.Sprintf("crowd%d", i)}, department: "Support", number: strconv.Itoa(50_000 + i)}
		ldif.WriteString(p.record())
	}
	if err := c.directory.Apply(t.Context(), ldif.String()); err != nil {
		t.Fatal(err)
	}
	c.replicas(t, "more replicas for the backlog", most)
	for range 2 {
		c.Kubectl(t, "--namespace=rollcall", "delete", "pod", "--selector=app.kubernetes.io/component=user-sync", "--force", "--grace-period=0", "--wait=false")
	}
	c.equal(t, "a crowd, with its workers killed twice")
	c.replicas(t, "one replica when all is done", 1)
}

// replicas waits until user-sync has so many that are ready.
func (c *cluster) replicas(t *testing.T, what string, want int) {
	t.Helper()
	began := time.Now()
	c.eventually(t, what, func(context.Context) error {
		var deployment struct {
			Status struct {
				Replicas int `json:"replicas"`
				Ready    int `json:"readyReplicas"`
			} `json:"status"`
		}
		c.Get(t, &deployment, "--namespace=rollcall", "deployment/rollcall-user-sync") //nolint:contextcheck // it takes the test's
		if s := deployment.Status; s.Replicas != want || s.Ready != want {
			return fmt.Errorf("%d replicas, %d ready, want %d", s.Replicas, s.Ready, want)
		}
		return nil
	})
	t.Logf("%s: %d after %.1f s", what, want, time.Since(began).Seconds())
}

// upgradeUnderLoad changes the release and takes that back while people are promoted
// without a pause.
func (c *cluster) upgradeUnderLoad(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var done sync.WaitGroup
	promoted := 0
	var failure error
	done.Go(func() {
		for ; ctx.Err() == nil && failure == nil; promoted++ {
			dn := fmt.Sprintf("uid=crowd%d,ou=people,%s", promoted%crowdSize, suffix)
			failure = c.directory.Apply(context.WithoutCancel(ctx), modify(dn, replace("title", fmt.Sprintf("Title %d", promoted))))
		}
	})
	c.upgrade(t, "helm")
	cancel()
	done.Wait()
	if failure != nil {
		t.Fatal(failure)
	}
	t.Logf("%d people were promoted meanwhile", promoted)
	c.equal(t, "an upgrade and a rollback under load")
}

// upgrade changes every pod, and takes that back.
func (c *cluster) upgrade(t *testing.T, helm string) {
	t.Helper()
	c.helm(t, helm, "upgrade", release, c.chart, "--wait", "--set=commonAnnotations.release=next", "--set=groupSync.replicas=3")
	c.helm(t, helm, "rollback", release, "--wait")
}

// uninstall removes the release and looks for what is left of it.
func (c *cluster) uninstall(t *testing.T, helm string) {
	t.Helper()
	c.helm(t, helm, "uninstall", release, "--wait")
	kinds := strings.Fields(c.Kubectl(t, "api-resources", "--namespaced", "--verbs=list", "--output=name"))
	args := []string{"get", strings.Join(kinds, ","), "--namespace=rollcall", "--output=name", "--ignore-not-found", "--selector=app.kubernetes.io/instance=rollcall"}
	c.eventually(t, "everything to be gone after "+helm+" uninstall", func(context.Context) error {
		if left := c.Kubectl(t, args...); left != "" { //nolint:contextcheck // it takes the test's; pods have their time to end
			return fmt.Errorf("left behind:\n%s", left)
		}
		return nil
	})
}
