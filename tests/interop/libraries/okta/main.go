// The Go SDK of Okta as a Transmitter of pushes (RFC 8935). It hands on SETs that others have signed.
//
//	okta URL TOKEN < SETS
//
// Each line of standard input is one SET. For each there is a line on standard output: the status and, where the SDK found
// one in the answer, the error code.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"

	"github.com/okta/okta-sdk-golang/v5/okta"
)

// rewrite has requests go to another address than the one that Okta's organisations share.
type rewrite struct {
	to   *url.URL
	sent http.RoundTripper
}

func (r rewrite) RoundTrip(request *http.Request) (*http.Response, error) {
	// The SDK keeps neither the port nor the path of the address that it is given.
	request.URL.Host, request.Host, request.URL.Path = r.to.Host, r.to.Host, r.to.Path
	return r.sent.RoundTrip(request)
}

func main() {
	if err := push(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "okta:", err)
		os.Exit(1)
	}
}

func push(arguments []string) error {
	if len(arguments) != 2 {
		return errors.New("usage: okta URL TOKEN < SETS")
	}
	to, err := url.Parse(arguments[0])
	if err != nil {
		return err
	}
	client, err := newClient(to, arguments[1])
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		request := client.SSFSecurityEventTokenAPI.PublishSecurityEventTokens(context.Background())
		response, err := request.SecurityEventToken(lines.Text()).Execute()
		if response == nil || response.Response == nil {
			return err
		}
		fmt.Println(response.StatusCode, code(err))
	}
	return lines.Err()
}

func newClient(to *url.URL, token string) (*okta.APIClient, error) {
	config, err := okta.NewConfiguration(
		okta.WithOrgUrl(to.Scheme+"://"+to.Host),
		okta.WithTestingDisableHttpsCheck(true),
		okta.WithCache(false),
		okta.WithRateLimitMaxRetries(0),
		okta.WithAuthorizationMode("Bearer"),
		okta.WithToken(token),
		okta.WithHttpClientPtr(&http.Client{Transport: rewrite{to, http.DefaultTransport}}),
	)
	if err != nil {
		return nil, err
	}
	return okta.NewAPIClient(config), nil
}

// code is what the SDK has decoded from an answer that is an error.
func code(err error) string {
	var answered *okta.GenericOpenAPIError
	if !errors.As(err, &answered) {
		return ""
	}
	if set, ok := answered.Model().(okta.SecurityEventTokenError); ok {
		return set.GetErr()
	}
	return err.Error()
}
