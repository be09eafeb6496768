"""What to do about each finding of the validators, for somebody who writes NWB files with pynwb."""

from __future__ import annotations

_ATLAS = "give the location as a term of the Allen mouse atlas (CCF v3), for example 'VISp'; of other species leave it"
_SECONDS = "write times in seconds from the session's start; samples or milliseconds have to be divided by their rate"
_TURN = "transpose: time (or the row of the table) is the first axis of `data`"
_COMPRESS = "write the array through H5DataIO(data, compression='gzip')"
_TEXT_IN_FILE = "set it when the NWBFile is made; it can be added to a file opened in mode 'a'"

REMEDIES = {
    # The subject: what DANDI refuses a file for.
    "check_subject_exists": "add nwbfile.subject = Subject(subject_id=…, species=…, sex=…, age=…); DANDI needs it",
    "check_subject_id_exists": "set subject.subject_id; DANDI names files after it",
    "check_subject_id_no_slashes": "take the slashes out of subject.subject_id; '-' may stand instead",
    "check_subject_sex": "set subject.sex to 'F', 'M', 'U' (unknown) or 'O' (other)",
    "check_subject_species_exists": "set subject.species, for example 'Mus musculus' or 'Macaca mulatta'",
    "check_subject_species_form": "write subject.species as its Latin name, or as an NCBI taxonomy address",
    "check_subject_age": "set subject.age as ISO 8601, for example 'P90D', or a range 'P60D/P90D'; or date_of_birth",
    "check_subject_proper_age_range": "put the lower bound of subject.age first, for example 'P60D/P90D'",
    "check_subject_weight": "write subject.weight with its unit, for example '0.025 kg'",
    # The session.
    "check_session_id_no_slashes": "take the slashes out of session_id; '-' may stand instead",
    "check_session_start_time_old_date": "correct session_start_time, or leave it if the date was shifted on purpose",
    "check_session_start_time_future_date": "correct session_start_time: it lies in the future",
    "check_experimenter_exists": f"set experimenter=['Last, First']; {_TEXT_IN_FILE}",
    "check_experimenter_form": "write names as 'Last, First' or 'Last, First Middle'",
    "check_experiment_description": f"set experiment_description; {_TEXT_IN_FILE}",
    "check_institution": f"set institution; {_TEXT_IN_FILE}",
    "check_keywords": f"set keywords=[…]; {_TEXT_IN_FILE}",
    "check_doi_publications": "write related_publications as 'doi:10.…' or as an address at doi.org",
    "check_file_extension": "let the name of the file end in .nwb",
    # Names and texts.
    "check_name_slashes": "take the slashes out of the object's name",
    "check_name_colons": "take the colons out of the object's name",
    "check_description": "say in the description what the data are; a placeholder helps nobody",
    "check_processing_module_name": "use a processing module named ecephys, ophys, behavior, icephys, ogen or misc",
    "check_empty_string_for_optional_attribute": "leave the field out (None) where there is nothing to say",
    "check_missing_unit": "set the unit of the series, in SI words such as 'volts'; 'n/a' for numbers without one",
    # Times and shapes of series.
    "check_regular_timestamps": "store `rate` and `starting_time`; timestamps that are evenly spaced cost space only",
    "check_data_orientation": _TURN,
    "check_timestamps_match_first_dimension": "give one timestamp for each sample of `data`'s first axis",
    "check_timestamps_ascending": "sort the samples by time, or split the series where its clock goes back",
    "check_timestamps_without_nans": "leave out samples without a time, or give them one",
    "check_timestamp_of_the_first_sample_is_not_negative": "let session_start_time be the earliest moment of all data",
    "check_rate_is_not_zero": "store the true `rate` in Hz, or `timestamps`",
    "check_rate_is_positive": "store the true `rate` in Hz; it cannot be negative",
    "check_rate_not_below_threshold": "see whether `rate` is in Hz: seconds per sample would be its inverse",
    "check_resolution": "set resolution to the smallest step of the data, or to -1.0 where it is not known",
    "check_time_series_duration": _SECONDS,
    "check_time_series_data_is_not_empty": "write the data, or leave the empty series out",
    "check_large_dataset_compression": _COMPRESS,
    "check_small_dataset_compression": _COMPRESS,
    # Tables.
    "check_dynamic_table_region_data_validity": "let the region hold row numbers of its table: 0 to the number of rows less 1",
    "check_empty_table": "fill the table, or leave it out",
    "check_time_intervals_start_time_not_constant": "write each row's own start_time; now all are the same",
    "check_time_interval_time_columns": "sort the rows by start_time",
    "check_time_intervals_stop_after_start": "correct rows that stop before they start",
    "check_time_intervals_duration": _SECONDS,
    "check_table_time_columns_are_not_negative": "count times from session_start_time, or set this earlier",
    "check_column_binary_capability": "store a column of two values as True and False",
    "check_single_row": "a table of one row may be better as attributes; nothing is wrong with it",
    "check_table_values_for_dict": "give each entry of the dictionary a column of its own",
    "check_col_not_nan": "leave out columns in which every value is missing",
    "check_ids_unique": "give each row an id of its own",
    # Units and electrodes.
    "check_units_table_has_spikes": "add the spike_times of each unit, or leave the Units table out",
    "check_negative_spike_times": "count spike times from session_start_time, or set this earlier",
    "check_units_resolution_is_set": "set Units.resolution to one period of the sampling clock, in seconds",
    "check_units_resolution_is_valid": "give Units.resolution in seconds: one period of the sampling clock",
    "check_spike_times_not_in_samples": _SECONDS,
    "check_spike_times_not_in_unobserved_interval": "widen obs_intervals to all that was recorded, or leave those spikes out",
    "check_ascending_spike_times": "sort the spike times of each unit, and leave out doubles",
    "check_units_table_duration": _SECONDS,
    "check_electrical_series_dims": _TURN,
    "check_electrical_series_reference_electrodes_table": "let `electrodes` be a region of nwbfile.electrodes",
    "check_electrical_series_unscaled_data": "set `conversion` (volts per stored step) for data stored as whole numbers",
    "check_electrodes_location_allen_ccf": _ATLAS,
    "check_intracellular_electrode_cell_id_exists": "set cell_id of the electrode",
    "check_intracellular_electrode_location_allen_ccf": _ATLAS,
    "check_sweeptable_deprecated": "write the tables of intracellular recordings (add_intracellular_recording) instead",
    # Optical physiology and optogenetics.
    "check_roi_response_series_dims": _TURN,
    "check_roi_response_series_link_to_plane_segmentation": "let `rois` be a region of a PlaneSegmentation",
    "check_emission_lambda_in_nm": "give emission_lambda in nanometres",
    "check_excitation_lambda_in_nm": "give excitation_lambda in nanometres",
    "check_plane_segmentation_image_mask_shape_against_ref_images": "give masks the shape of the reference images",
    "check_imaging_plane_location_allen_ccf": _ATLAS,
    "check_optogenetic_stimulus_site_has_optogenetic_series": "add the OptogeneticSeries of the site, or leave the site out",
    # Images and behaviour.
    "check_image_series_external_file_valid": "put the external file where external_file says, or correct the path",
    "check_image_series_external_file_relative": "give external_file relative to the NWB file",
    "check_image_series_data_size": "keep long movies in a file of their own, and name it in external_file",
    "check_image_series_starting_frame_without_external_file": "leave starting_frame out where there is no external_file",
    "check_order_of_images_unique": "name each image once in order_of_images",
    "check_order_of_images_len": "let order_of_images name every image",
    "check_index_series_points_to_image": "let the IndexSeries point at indexed_images, not at an ImageSeries",
    "check_spatial_series_dims": "give a SpatialSeries one to three columns: x, y, z",
    "check_spatial_series_unit": "set the unit of the SpatialSeries to meters, degrees, radians, pixels or a like word",
    "check_compass_direction_unit": "set the unit to 'radians' or 'degrees'",
    "check_spatial_series_radians_magnitude": "see whether the angles are radians; the unit may have to be 'degrees'",
    "check_spatial_series_degrees_magnitude": "see whether the angles are degrees, and bring them within one turn",
}
OF_SCHEMA = {
    "MissingError": "add the missing part with pynwb: read the file, set what the message names, export it",
    "ExpectedArrayError": "store an array there, not a single value",
    "ShapeError": "store an array of the shape that the message names",
    "DtypeError": "store the type of number or text that the message names",
    "MissingDataType": "add the object that the message names",
    "IllegalLinkError": "store the object itself there, not a link to it",
    "IncorrectDataType": "store an object of the type that the message names",
    "IncorrectQuantityError": "store as many objects as the message names",
}
"""By kind of pynwb's finding."""
OTHERWISE = "look the name of the check up in NWB's best practices, https://nwbinspector.readthedocs.io"
OTHERWISE_OF_SCHEMA = "write the file again with the newest version of the program that made it, or mend it with pynwb"
UNREADABLE = "open the file with pynwb to see where it fails; extensions it needs may have to be installed"


def remedy_of_check(name: str) -> str:
    """What to do about a finding of nwbinspector."""
    return REMEDIES.get(name, OTHERWISE)


def remedy_of_schema(kind: str) -> str:
    """What to do about a finding of pynwb's validator, by its class."""
    return OF_SCHEMA.get(kind, OTHERWISE_OF_SCHEMA)
