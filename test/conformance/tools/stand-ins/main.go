// The programs of critest's images that Debian's busybox has not: it tests the runtime through them.
// Which one it is, the name says that it is called by.
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

const master = "nginx: master process nginx"

// nginx is known by its process title, its pid file and its port.
func nginx(port string) error {
	if os.Args[0] != master {
		return syscall.Exec("/bin/nginx", append([]string{master}, os.Args[1:]...), os.Environ())
	}
	if err := os.MkdirAll("/var/run", 0o755); err != nil {
		return err
	}
	pid := fmt.Sprintln(os.Getpid())
	if err := os.WriteFile("/var/run/nginx.pid", []byte(pid), 0o644); err != nil {
		return err
	}
	return serve(port)
}

// httpd tells its command line, as Apache's does.
func httpd() error {
	fmt.Fprintf(os.Stderr, "Command line: '%s'\n", strings.Join(os.Args, " "))
	return serve("80")
}

func serve(port string) error {
	answer := func(out http.ResponseWriter, _ *http.Request) { fmt.Fprintln(out, "It works!") }
	return http.ListenAndServe(":"+port, http.HandlerFunc(answer))
}

// pgrep prints the processes whose name holds a word; none is a failure.
func pgrep(word string) error {
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return err
	}
	found := 0
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(text), word) {
			fmt.Println(filepath.Base(filepath.Dir(name)))
			found++
		}
	}
	if found == 0 {
		os.Exit(1)
	}
	return nil
}

// ipcs prints the shared memory segments: critest looks for an identifier.
func ipcs() error {
	text, err := os.ReadFile("/proc/sysvipc/shm")
	fmt.Print(string(text))
	return err
}

// pause is the sandbox of a pod: it reaps what the pod's containers leave to it.
func pause() error {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGINT, syscall.SIGTERM)
	for got := range signals {
		if got != syscall.SIGCHLD {
			return nil
		}
		for {
			if pid, _ := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 {
				break
			}
		}
	}
	return nil
}

func main() {
	var err error
	words := append(os.Args, "")
	switch name := filepath.Base(words[0]); {
	case words[0] == master, name == "nginx":
		port := words[1]
		if port == "" {
			port = "80"
		}
		err = nginx(port)
	case name == "httpd":
		err = httpd()
	case name == "nonewprivs":
		fmt.Printf("Effective uid: %d\n", os.Geteuid())
	case name == "pause":
		err = pause()
	case name == "pgrep":
		err = pgrep(words[1])
	case name == "ipcs":
		err = ipcs()
	default:
		err = fmt.Errorf("no program %q here", name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
