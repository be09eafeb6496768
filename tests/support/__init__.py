"""What several tests share: small files, data, fits, results and commands; no test is here."""
