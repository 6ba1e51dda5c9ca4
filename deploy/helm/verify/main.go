// Verify reads rendered Kubernetes objects on its standard input and fails on
// what an API server would refuse or silently drop: fields that do not exist,
// values of a wrong type, selectors that miss their pods, mounts without a
// volume. It also holds every pod to the restricted Pod Security Standard.
// With -config it writes the rollcall.yaml of the ConfigMap to a file, for
// `rollcall config validate`.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
)

func main() {
	config := flag.String("config", "", "file that gets the configuration of the ConfigMap")
	flag.Parse()
	if err := run(os.Stdin, *config); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "verify:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, config string) error {
	objects, err := decode(in)
	if err != nil {
		return err
	}
	var faults []error
	for _, object := range objects {
		switch o := object.(type) {
		case *appsv1.Deployment:
			faults = append(faults, deployment(o)...)
		case *corev1.ServiceAccount:
			if o.AutomountServiceAccountToken == nil || *o.AutomountServiceAccountToken {
				faults = append(faults, fault(o.Name, "mounts a token that nobody needs"))
			}
		case *corev1.ConfigMap:
			if config == "" {
				continue
			}
			if err := os.WriteFile(config, []byte(o.Data["rollcall.yaml"]), 0o600); err != nil {
				return fmt.Errorf("write configuration: %w", err)
			}
		}
	}
	return errors.Join(faults...)
}

// decode reads every document, strictly: what is unknown or stands twice is a fault.
func decode(in io.Reader) ([]runtime.Object, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, corev1.AddToScheme, policyv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register types: %w", err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := yaml.NewYAMLReader(bufio.NewReader(in))
	var objects []runtime.Object
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read documents: %w", err)
		}
		if empty(string(document)) {
			continue
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("decode: %w in\n%s", err, document)
		}
		objects = append(objects, object)
	}
}

func empty(document string) bool {
	for line := range strings.Lines(document) {
		if line = strings.TrimSpace(line); line != "" && line != "---" && !strings.HasPrefix(line, "#") {
			return false
		}
	}
	return true
}

func deployment(d *appsv1.Deployment) []error {
	var faults []error
	for key, value := range d.Spec.Selector.MatchLabels {
		if d.Spec.Template.Labels[key] != value {
			faults = append(faults, fault(d.Name, "selects "+key+"="+value+", which its pods do not have"))
		}
	}
	pod := d.Spec.Template.Spec
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		faults = append(faults, fault(d.Name, "mounts a token that nobody needs"))
	}
	if s := pod.SecurityContext; s == nil || s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault ||
		s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser == 0 {
		faults = append(faults, fault(d.Name, "its pods are not restricted: runAsNonRoot, runAsUser, seccompProfile"))
	}
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		if volumes[v.Name] {
			faults = append(faults, fault(d.Name, "has volume "+v.Name+" twice"))
		}
		volumes[v.Name] = true
	}
	for _, c := range pod.Containers {
		faults = append(faults, container(d.Name+"/"+c.Name, &c, volumes)...)
	}
	return faults
}

func container(name string, c *corev1.Container, volumes map[string]bool) []error {
	var faults []error
	paths := map[string]bool{}
	for _, m := range c.VolumeMounts {
		if !volumes[m.Name] {
			faults = append(faults, fault(name, "mounts volume "+m.Name+", which is not there"))
		}
		if paths[m.MountPath] {
			faults = append(faults, fault(name, "mounts two volumes at "+m.MountPath))
		}
		paths[m.MountPath] = true
	}
	s := c.SecurityContext
	if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
		s.Capabilities == nil || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" ||
		s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
		faults = append(faults, fault(name, "is not restricted: allowPrivilegeEscalation, capabilities, readOnlyRootFilesystem"))
	}
	if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() {
		faults = append(faults, fault(name, "lacks requests or a memory limit"))
	}
	if c.LivenessProbe == nil || c.ReadinessProbe == nil || c.StartupProbe == nil {
		faults = append(faults, fault(name, "lacks a probe"))
	}
	return faults
}

func fault(object, problem string) error {
	return fmt.Errorf("%s: %s", object, problem)
}
