package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/keyraft/keyraft/internal/e2e/proc"
)

const keycloakVersion = "26.7.3"

// The plugin that fetches the distribution; a version, so that nothing resolves
// to another one tomorrow.
const mavenCopy = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy"

// keycloak is Keycloak from its Maven distribution, with the realm of
// keycloak/realm.json. It issues JWTs only.
func keycloak() *Peer {
	const realm = "/realms/bench/protocol/openid-connect/token"
	return &Peer{
		Name:       "keycloak",
		Version:    keycloakVersion,
		Workloads:  []Workload{JWTES256, JWTRS256, Introspect},
		Warmup:     45 * time.Second,
		programs:   []string{"java", "mvn", "taskset"},
		startLimit: 10 * time.Minute, // a schema and a realm to make, 40 s of CPU time: minutes on a core that others use too
		prepare:    prepareKeycloak,
		command:    keycloakCommand,
		ready:      keycloakReady,
		issue: map[Workload]issue{
			JWTES256: {path: realm, client: "bench-es256"},
			JWTRS256: {path: realm, client: "bench-rs256"},
		},
		introspect: introspect{path: realm + "/introspect", token: JWTES256},
	}
}

func keycloakHome(f Folders) (string, error) {
	return filepath.Abs(filepath.Join(f.Cache, "keycloak", "keycloak-"+keycloakVersion))
}

// prepareKeycloak fetches about 170 MB and runs the build step of Keycloak, which
// fixes what can be fixed before the start: the database's kind.
func prepareKeycloak(ctx context.Context, f Folders) error {
	home, err := keycloakHome(f)
	if err != nil {
		return err
	}
	java, err := javaHome()
	if err != nil {
		return err
	}
	realm, err := os.ReadFile(filepath.Join(f.Source, "keycloak", "realm.json"))
	if err != nil {
		return fmt.Errorf("read its realm (is the source folder the one in the repository?): %w", err)
	}
	imports := filepath.Join(home, "data", "import")
	if err := os.MkdirAll(imports, 0o750); err != nil {
		return fmt.Errorf("make its folder: %w", err)
	}
	if err := os.WriteFile(filepath.Join(imports, "bench-realm.json"), realm, 0o600); err != nil {
		return err
	}
	build := []string{"build", "--db=dev-mem"}
	return once(filepath.Join(home, "installed"), fmt.Append(nil, keycloakVersion, build), func() error {
		folder := filepath.Dir(home)
		if err := run(ctx, folder, nil, "mvn", "--batch-mode", "--quiet", mavenCopy,
			"-Dartifact=org.keycloak:keycloak-quarkus-dist:"+keycloakVersion+":zip", "-DoutputDirectory="+folder); err != nil {
			return err
		}
		archive := filepath.Join(folder, "keycloak-quarkus-dist-"+keycloakVersion+".zip")
		if err := unzip(archive, home); err != nil {
			return err
		}
		if err := os.Remove(archive); err != nil { // Maven keeps its own copy
			return err
		}
		return run(ctx, home, []string{"JAVA_HOME=" + java}, "bin/kc.sh", build...)
	})
}

// keycloakCommand is the command line that bin/kc.sh of this version makes, with
// its defaults for the virtual machine. The script itself would stay in between:
// the measured process would be its child, and would outlive it when it is killed.
func keycloakCommand(f Folders, _ bool) (proc.Spec, error) {
	home, err := keycloakHome(f)
	if err != nil {
		return proc.Spec{}, err
	}
	java, err := javaHome()
	if err != nil {
		return proc.Spec{}, err
	}
	return proc.Spec{
		Bin: filepath.Join(java, "bin", "java"),
		Args: slices.Concat([]string{
			"-Djava.util.concurrent.ForkJoinPool.common.threadFactory=io.quarkus.bootstrap.forkjoin.QuarkusForkJoinWorkerThreadFactory",
			"-XX:MetaspaceSize=96M", "-XX:MaxMetaspaceSize=256m", "-Dfile.encoding=UTF-8", "-XX:+ExitOnOutOfMemoryError",
			"-Djava.security.egd=file:/dev/urandom", "-XX:+UseG1GC", "-Xms64m", "-Xmx512m",
			"--add-opens=java.base/java.util=ALL-UNNAMED", "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
			"--add-opens=java.base/java.security=ALL-UNNAMED", "--add-opens=java.base/java.lang=ALL-UNNAMED",
			"--enable-native-access=ALL-UNNAMED", "-Duser.language=en", "-Duser.country=US",
			"-Dkc.home.dir=" + home, "-Djboss.server.config.dir=" + filepath.Join(home, "conf"),
			"-Djava.util.logging.manager=org.jboss.logmanager.LogManager", "-Dpicocli.disable.closures=true",
			"-Dquarkus-log-max-startup-records=10000",
			"-cp", filepath.Join(home, "lib", "quarkus-run.jar"), "io.quarkus.bootstrap.runner.QuarkusEntryPoint",
		}, []string{
			"start", "--optimized", "--import-realm", "--cache=local", // no cluster, no port for one
			"--http-enabled=true", "--http-host=127.0.0.1", "--http-port=0", "--hostname-strict=false",
		}),
		Dir: home,
		Env: []string{"JAVA_TOOL_OPTIONS=", "JDK_JAVA_OPTIONS="},
	}, nil
}

// javaHome is JAVA_HOME, else the newest JDK where Linux distributions put them,
// else the one in PATH.
func javaHome() (string, error) {
	if home := os.Getenv("JAVA_HOME"); home != "" {
		return home, nil
	}
	best, bestMajor := "", 0
	homes, err := filepath.Glob("/usr/lib/jvm/*")
	if err != nil {
		return "", err
	}
	for _, home := range homes {
		if major := javaMajor(home); major > bestMajor {
			best, bestMajor = home, major
		}
	}
	if best != "" {
		return best, nil
	}
	java, err := exec.LookPath("java")
	if err != nil {
		return "", errors.New("no java: set JAVA_HOME to a JDK of version 21 or newer")
	}
	if java, err = filepath.EvalSymlinks(java); err != nil {
		return "", err
	}
	return filepath.Dir(filepath.Dir(java)), nil
}

// javaVersion is in the file "release" of every JDK: JAVA_VERSION="25.0.1".
var javaVersion = regexp.MustCompile(`(?m)^JAVA_VERSION="(\d+)`)

// javaMajor is 0 when the folder is no JDK.
func javaMajor(home string) int {
	text, err := os.ReadFile(filepath.Join(home, "release"))
	if err != nil {
		return 0
	}
	found := javaVersion.FindSubmatch(text)
	if found == nil {
		return 0
	}
	major, err := strconv.Atoi(string(found[1]))
	if err != nil {
		return 0
	}
	return major
}

// listening is the end of Keycloak's start, with the port that the kernel chose.
var listening = regexp.MustCompile(`started in .*Listening on: (http://127\.0\.0\.1:\d+)`)

// keycloakReady reads Keycloak's standard output as it grows.
func keycloakReady(ctx context.Context, p *proc.Process, log string) (string, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := os.ReadFile(log + ".out")
		if err != nil {
			return "", err
		}
		if found := listening.FindSubmatch(out); found != nil {
			return string(found[1]), nil
		}
		select {
		case <-tick.C:
		case <-p.Ended():
			return "", errors.New("it ended before it served")
		case <-ctx.Done():
			return "", fmt.Errorf("it does not serve in time: %w", ctx.Err())
		}
	}
}
