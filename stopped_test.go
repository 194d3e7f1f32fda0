//go:build slow && unix

package bedrocktoken_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const stoppedSource = "BEDROCKTOKEN_TEST_STOPPED_SOURCE"

// A process that is stopped for longer than a retrieval may take, while one is under
// way, serves its callers when it goes on: the answer lies in the socket. The test
// takes a minute, so it has a build tag.
func TestRetrievalSurvivesAStoppedProcess(t *testing.T) {
	if url := os.Getenv(stoppedSource); url != "" {
		askWhileStopped(t, url)
		return
	}
	asked := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		time.Sleep(200 * time.Millisecond)
		json.NewEncoder(w).Encode(aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey})
	}))
	defer server.Close()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	child.Env = append(os.Environ(), stoppedSource+"="+server.URL)
	output, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	<-asked
	child.Process.Signal(syscall.SIGSTOP)
	time.Sleep(65 * time.Second)
	child.Process.Signal(syscall.SIGCONT)
	continued, tokens := time.Now(), 0
	for lines := bufio.NewScanner(output); lines.Scan(); {
		if token, ok := strings.CutPrefix(lines.Text(), "token "); ok {
			acceptStatic(t, token)
			tokens++
		} else if strings.HasPrefix(lines.Text(), "error ") {
			t.Error(lines.Text())
		}
	}
	if err := child.Wait(); err != nil || tokens != 12 || time.Since(continued) > 10*time.Second {
		t.Errorf("%d tokens after %v, want 12 at once; error %v", tokens, time.Since(continued), err)
	}
}

// askWhileStopped asks for 12 tokens, whose credentials come from url.
func askWhileStopped(t *testing.T, url string) {
	provider := newProvider(t, aws.CredentialsProviderFunc(func(ctx context.Context) (creds aws.Credentials, err error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return creds, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return creds, err
		}
		defer response.Body.Close()
		err = json.NewDecoder(response.Body).Decode(&creds)
		return creds, err
	}))
	var callers sync.WaitGroup
	for range 12 {
		callers.Go(func() {
			if token, err := provider.Token(t.Context()); err != nil {
				fmt.Printf("error %v\n", err)
			} else {
				fmt.Printf("token %s\n", token)
			}
		})
	}
	callers.Wait()
}
