-- Which logins see which sites: read by the views of schema bi_site, with the session's own name.
CREATE TABLE framegrid.site_reader (
    role TEXT NOT NULL,
    site TEXT NOT NULL,
    PRIMARY KEY (role, site)
);
COMMENT ON TABLE framegrid.site_reader IS 'Logins that see the cameras of some sites alone, in schema bi_site';
COMMENT ON COLUMN framegrid.site_reader.role IS 'Name of the login';
COMMENT ON COLUMN framegrid.site_reader.site IS 'A site that it may see, as framegrid.camera.site has it';
